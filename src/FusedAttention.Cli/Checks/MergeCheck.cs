using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Formats;
using FusedAttention.Cli.Verification;

namespace FusedAttention.Cli.Checks;

/// <summary><see cref="MetalAttention"/>'s merge of three parts against the formula in double precision. One part in four saw no key, and one row has none at all.</summary>
internal sealed record MergeCheck<TPartial, TOutput>(string Types, MetalDevice Device, int Dim, bool HasSinks) : Check("merge", $"{Types}, D {Dim}")
    where TPartial : unmanaged
    where TOutput : unmanaged
{
    private const int Parts = 3, Queries = 5, Heads = 3, Rows = Queries * Heads;

    protected override CheckOutcome RunCore(Backend backend, AttentionOptions run, Action<string> onKernel)
    {
        onKernel("merge");
        var random = new Random(7);
        float[] numbers = [.. Enumerable.Range(0, Parts * Rows * Dim).Select(_ => (float)((random.NextDouble() * 2) - 1))];
        LoadedTensor partials = LoadedTensor.Create<float>("partials", numbers, numbers.Length).ConvertTo(LoadedTensor.Create<TPartial>("", [], 0).ElementType);
        float[] logSumExps = [.. Enumerable.Range(0, Parts * Rows).Select(i => i % 4 == 3 || i % Rows == 1 ? float.NegativeInfinity : (float)(random.NextDouble() * 8))];
        float[] sinks = HasSinks ? [0.5f, 7, float.NegativeInfinity] : [];

        using MetalTensor<TPartial> partialOutputs = Device.Allocate<TPartial>(Parts, Queries, Heads, Dim);
        using MetalTensor<float> partialLogSumExps = Device.Allocate<float>(Parts, Heads, Queries), logSumExp = Device.Allocate<float>(Heads, Queries);
        using MetalTensor<TOutput> output = Device.Allocate<TOutput>(Queries, Heads, Dim);
        partialOutputs.CopyFrom(partials.Elements<TPartial>());
        partialLogSumExps.CopyFrom(logSumExps);
        MetalAttention.Merge(partialOutputs, partialLogSumExps, output, logSumExp, sinks);

        LoadedTensor merged = LoadedTensor.Create("o", output.AsReadOnlySpan(), Rows * Dim);
        (double[] expected, double[] expectedLogSumExp) = Expected(partials.ToDoubles(), logSumExps, sinks);
        double limit = (2 * ErrorLimits.UnitRoundoff(merged.ElementType)) + Math.ScaleB(32, -24);
        ErrorSummary outputError = ErrorSummary.Compare(merged.ToDoubles(), expected, _ => limit);
        ErrorSummary logSumExpError = ErrorSummary.Compare(
            LoadedTensor.Create("lse", logSumExp.AsReadOnlySpan(), Rows).ToDoubles(), expectedLogSumExp, i => 1e-5 + (1e-6 * Math.Abs(expectedLogSumExp[i])));
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
