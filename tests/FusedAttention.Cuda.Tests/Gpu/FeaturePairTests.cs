using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Each feature of a call beside each other one, over several tiles: kernels have texts of their own for what is there, and what two of them leave out between them no test of one shows.</summary>
public abstract class FeaturePairTests
{
    private const int Queries = 70;
    private const int Keys = 333;
    private const int Heads = 4;

    private static readonly (string Name, Func<Problem, Problem> Add)[] Features =
    [
        ("bias", static problem => new ProblemGenerator(1).WithBias(problem, AttentionElementType.Float16)),
        ("bias of keys", static problem => problem with { BiasType = AttentionElementType.Float32, Bias = new([.. Enumerable.Range(0, Keys).Select(static k => (k * 7919 % 1009 / 250f) - 2)], 1, 1, 1, Keys) }),
        ("mask", static problem => new ProblemGenerator(2).WithMask(problem)),
        ("ALiBi", static problem => With(problem, static options => options with { AlibiSlopes = AlibiSlopes.ForHeads(Heads) })),
        ("soft cap", static problem => With(problem, static options => options with { SoftCap = 1.5f })),
        ("sinks", static problem => With(problem, static options => options with { SinkLogits = [0.5f, -1, 2, 0] })),
        ("causal", static problem => With(problem, static options => options with { Mask = AttentionMask.Causal })),
        ("window", static problem => With(problem, static options => options with { Mask = AttentionMask.CausalWindow(150) })),
        ("score function", static problem => With(problem, static options => options with { ScoreFunction = ScoreFunction.Of(new LinearBias(new ScoreTable([0.5f, 0.1f, 0.02f, 0.004f]))) })),
        ("mask function", static problem => With(problem, static options => options with { MaskFunction = MaskFunction.Of(new GlobalLocalMask(5, 100)) })),
    ];

    private protected FeaturePairTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <summary>The numbers of all features but the last, which is beside each.</summary>
    public static TheoryData<int> First => [.. Enumerable.Range(0, Features.Length - 1)];

    /// <summary>In the prefill and in what the call gets.</summary>
    /// <param name="first">A feature; those behind it in the list are beside it.</param>
    [Theory]
    [MemberData(nameof(First))]
    public void Both_are_there(int first)
    {
        using CudaStream stream = Problems.Open().CreateStream();
        using GpuCaller caller = new(stream.Device, AttentionKernel.Prefill, stream);
        for (int second = first + 1; second < Features.Length; second++)
        {
            Problem problem = Features[second].Add(Features[first].Add(Plain(first + second)));
            GpuProblems.AssertClose(GpuProblems.Run(problem, null, caller), problem, RowByRow.Solve(problem), caller.Forced, $"{Features[first].Name} and {Features[second].Name}");
        }
    }

    private static Problem Plain(int number)
    {
        AttentionElementType type = number % 2 == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16;

        // Of each tile that differs by the warpgroups that compute: three, and two.
        int dim = (number % 3) switch { 0 => 16, 1 => 80, _ => 64 };
        return new ProblemGenerator(number).Fill(new Problem
        {
            Name = "features",
            Form = CallForm.Dense,
            QueryType = type,
            KeyValueType = type,
            Heads = Heads,
            KeyValueHeads = 2,
            KeyDim = dim,
            ValueDim = dim,
            QueryLengths = [Queries],
            KeyLengths = [Keys],
            KeyCapacity = Keys,
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions(),
        });
    }

    private static Problem With(Problem problem, Func<AttentionOptions, AttentionOptions> change) => problem with { Options = change(problem.Options) };
}
