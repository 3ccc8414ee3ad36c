using System.Collections.Concurrent;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Random problems on a GPU, this machine's or the emulated one, and what their results are compared with.</summary>
/// <param name="target">The GPU.</param>
internal sealed class GpuProblems(TestDevice target)
{
    public static readonly AttentionKernel[] Kernels = [AttentionKernel.Prefill, AttentionKernel.Decode, AttentionKernel.Plain];

    /// <summary>Groups of 1, 3, 8 and 40 query heads, and some between.</summary>
    public static readonly (int Heads, int KeyValueHeads)[] Heads = [(1, 1), (3, 1), (8, 1), (40, 1), (8, 8), (6, 2), (24, 3), (40, 8), (16, 2), (71, 1)];

    private const int MostFailures = 6;

    /// <summary>How many threads make calls side by side: FUSEDATTENTION_GPU_THREADS=1 tells which call an illegal access belongs to.</summary>
    private static readonly int Threads = Environment.GetEnvironmentVariable("FUSEDATTENTION_GPU_THREADS") is { Length: > 0 } text && int.TryParse(text, out int threads) ? threads : Environment.ProcessorCount;

    /// <summary>What problems run on.</summary>
    public TestDevice Target { get; } = target;

    /// <summary>The GPU, or the end of a test where there is none.</summary>
    public CudaDevice Open() => Target.Open();

    /// <summary>The same for a test of one kernel, which may be another device's to test.</summary>
    public CudaDevice Open(AttentionKernel kernel)
    {
        Assert.SkipUnless(Target.Tests(kernel), $"{Target} tests other kernels.");
        return Open();
    }

    /// <summary>Whether a kernel takes a problem that lies in memory as vectors need it.</summary>
    public bool Takes(AttentionKernel kernel, Problem problem) => kernel == AttentionKernel.Plain || (HasMatrixTypes(problem) && (kernel == AttentionKernel.Prefill
        ? TileTable.Prefill(problem.KeyDim, problem.ValueDim, Open().Description, CallFeatures.Mask | CallFeatures.Bias, problem.KeyValueType.Size()) is not null
        : TileTable.Decode(problem.KeyDim, problem.ValueDim, Open().Description, problem.KeyValueType.Size()) is not null));

    /// <summary>A call, or null where the kernel that is forced does not take it.</summary>
    public static CallResult? TryRun(Problem problem, Arrangement? arrangement, GpuCaller caller)
    {
        GpuTrace.Write($"{problem}\n    {arrangement}");
        try
        {
            return Caller.Run(problem, arrangement, caller);
        }
        catch (NotSupportedException refusal) when (caller.Forced is not null && refusal.Message.Contains("does not take dimensions", StringComparison.Ordinal))
        {
            return null;
        }
        catch (CudaException failure)
        {
            throw new CudaException($"{failure.Message}\n{problem}\n{arrangement}", failure);
        }
    }

    public static CallResult Run(Problem problem, Arrangement? arrangement, GpuCaller caller) =>
        TryRun(problem, arrangement, caller) ?? throw new NotSupportedException($"{caller.Forced} does not take {problem}\n{arrangement}");

    /// <summary>Runs a problem on its own.</summary>
    public CallResult Run(Problem problem, Arrangement? arrangement = null, AttentionKernel? forced = null)
    {
        using var caller = new GpuCaller(Open(), forced);
        return Run(problem, arrangement, caller);
    }

    /// <summary>Each element against its own limit, which knows how the kernel rounds weights.</summary>
    public static void AssertClose(CallResult result, Problem problem, Solution solution, AttentionKernel? kernel, string what = "")
    {
        Solution expected = kernel != AttentionKernel.Plain && HasMatrixTypes(problem) ? solution.WithRoundedWeights(problem.QueryType, problem.QueryType) : solution;
        if (kernel is null or AttentionKernel.Prefill && HasMatrixTypes(problem)) expected = expected.WithDistances(problem);
        try
        {
            result.AssertClose(problem, expected);
        }
        catch (Exception failure) when (failure is Xunit.Sdk.XunitException)
        {
            throw new Xunit.Sdk.XunitException($"{kernel?.ToString() ?? "chosen kernel"}: {failure.Message}\n{Rows(result, problem, expected)}{what}", failure);
        }
    }

    /// <summary>Does something for each number on several threads, all of which use the GPU, each with a stream of its own. The first failures are in the message.</summary>
    public void ForEach(IEnumerable<int> numbers, Action<int, CudaStream> check)
    {
        CudaDevice device = Open();
        var failures = new ConcurrentQueue<string>();
        int count = 0;
        Parallel.ForEach(
            Target.Some(numbers), new ParallelOptions { MaxDegreeOfParallelism = Threads },
            () => device.CreateStream(),
            (number, state, stream) =>
            {
                try
                {
                    check(number, stream);
                }
                catch (Exception failure)
                {
                    failures.Enqueue($"number {number}: {(failure is Xunit.Sdk.XunitException or CudaException ? failure.Message : failure.ToString())}");
                    if (Interlocked.Increment(ref count) >= 10 * MostFailures || IsEndOfContext(failure)) state.Stop();
                }

                return stream;
            },
            stream => stream.Dispose());
        if (!failures.IsEmpty) Assert.Fail($"{failures.Count} failures (no more are looked for after {10 * MostFailures}); the first are\n\n{string.Join("\n\n", failures.Take(MostFailures))}");
    }

    /// <summary>Whether the driver will fail everything from now on, or may: not where it only refused a kernel.</summary>
    private static bool IsEndOfContext(Exception failure) =>
        failure is CudaException && !failure.Message.Contains("refuses kernel", StringComparison.Ordinal) && !failure.Message.Contains("is of no use", StringComparison.Ordinal);

    private static bool HasMatrixTypes(Problem problem) => (problem.QueryType == problem.KeyValueType || problem.KeyValueType.TakesScales()) && problem.QueryType.Size() == sizeof(ushort);

    /// <summary>Which rows are wrong, in a few words: all of them, those of one head, one query in eight.</summary>
    private static string Rows(CallResult result, Problem problem, Solution expected)
    {
        var bad = new List<string>();
        int wrong = 0, rows = 0, elements = 0;
        for (int s = 0; s < problem.Sequences; s++)
        {
            for (int row = 0; row < problem.QueryLengths[s] * problem.Heads; row++)
            {
                int inRow = 0;
                for (int n = row * problem.ValueDim; n < (row + 1) * problem.ValueDim; n++)
                    if (!(Math.Abs(result.Output[s][n] - expected.Output[s][n]) <= expected.OutputLimit[s][n])) inRow++;
                rows++;
                elements += inRow;
                if (inRow == 0) continue;
                wrong++;
                if (bad.Count < 12) bad.Add($"[sequence {s} query {row / problem.Heads} head {row % problem.Heads}: {inRow} of {problem.ValueDim}]");
            }
        }

        return $"{wrong} of {rows} rows have wrong outputs, {elements} elements in all: {string.Join(' ', bad)}\n";
    }
}
