using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Checks;

/// <summary>The merge of three parts against the formula in double precision. One part in four saw no key, and one row has none at all.</summary>
/// <param name="Types">What the name says of the types.</param>
/// <param name="PartialType">Element type of the parts.</param>
/// <param name="OutputType">Element type of the result.</param>
/// <param name="Dim">Elements of a row.</param>
/// <param name="HasSinks">Whether each head has a sink.</param>
public sealed record MergeCheck(string Types, TensorElementType PartialType, TensorElementType OutputType, int Dim, bool HasSinks) : Check("merge", $"{Types}, D {Dim}")
{
    private const int Parts = 3, Queries = 5, Heads = 3, Rows = Queries * Heads;

    private const TensorElementType F32 = TensorElementType.Float32, F16 = TensorElementType.Float16, BF16 = TensorElementType.BFloat16;

    /// <summary>Each type in and out, with and without sinks, dimensions whole and not.</summary>
    public static IEnumerable<Check> All { get; } =
    [
        new MergeCheck("fp32", F32, F32, Dim: 64, HasSinks: false),
        new MergeCheck("fp32 to fp16, sinks", F32, F16, Dim: 33, HasSinks: true),
        new MergeCheck("fp16", F16, F16, Dim: 128, HasSinks: false),
        new MergeCheck("fp16 to fp32", F16, F32, Dim: 20, HasSinks: false),
        new MergeCheck("bf16, sinks", BF16, BF16, Dim: 96, HasSinks: true),
        new MergeCheck("bf16 to fp32", BF16, F32, Dim: 512, HasSinks: false),
    ];

    protected override CheckOutcome RunCore(Backend backend, RunOptions run, Action<string> onKernel)
    {
        onKernel("merge");
        LoadedTensor partials = RandomNumbers.Uniform(7, Parts * Rows * Dim, 1).ToTensor("partials", PartialType, Parts, Queries, Heads, Dim);
        float[] logSumExps = new float[Parts * Rows];
        RandomNumbers.Uniform(8, logSumExps.Length, 4).CopyTo(logSumExps);
        for (int i = 0; i < logSumExps.Length; i++)
        {
            if (i % 4 == 3 || i % Rows == 1) logSumExps[i] = float.NegativeInfinity;
        }

        float[] sinks = HasSinks ? [0.5f, 7, float.NegativeInfinity] : [];
        MergeResult merged = backend.Merge(new(partials, LoadedTensor.Create<float>("partial log-sum-exps", logSumExps, Parts, Heads, Queries), OutputType, sinks));

        (double[] expected, double[] expectedLogSumExp) = Expected(partials.ToDoubles(), logSumExps, sinks);
        double limit = (2 * ErrorLimits.UnitRoundoff(OutputType)) + Math.ScaleB(32, -24);
        ErrorSummary outputError = ErrorSummary.Compare(merged.Output.ToDoubles(), expected, _ => limit);
        ErrorSummary logSumExpError = ErrorSummary.Compare(merged.LogSumExp.ToDoubles(), expectedLogSumExp, i => 1e-5 + (1e-6 * Math.Abs(expectedLogSumExp[i])));
        bool passed = outputError.Passed && logSumExpError.Passed;
        return new("merge", outputError, logSumExpError, passed ? null : $"output error {outputError.WorstError:g4} (limit {outputError.WorstLimit:g4}), log-sum-exp error {logSumExpError.WorstError:g4}");
    }

    private (double[] Output, double[] LogSumExp) Expected(double[] partials, float[] logSumExps, float[] sinks)
    {
        double[] output = new double[Rows * Dim], all = new double[Rows];
        for (int head = 0; head < Heads; head++)
        {
            for (int query = 0; query < Queries; query++)
            {
                int statistic = (head * Queries) + query, row = (query * Heads) + head;
                double sum = HasSinks ? Math.Exp(sinks[head]) : 0;
                for (int part = 0; part < Parts; part++) sum += Math.Exp(logSumExps[(part * Rows) + statistic]);
                all[statistic] = Math.Log(sum);
                for (int part = 0; part < Parts && sum > 0; part++)
                {
                    double weight = Math.Exp(logSumExps[(part * Rows) + statistic]) / sum;
                    for (int d = 0; d < Dim; d++) output[(row * Dim) + d] += weight * partials[(((part * Rows) + row) * Dim) + d];
                }
            }
        }

        return (output, all);
    }
}
