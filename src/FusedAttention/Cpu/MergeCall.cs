using FusedAttention.Cpu.Merging;
using FusedAttention.Cpu.Threading;
using FusedAttention.Diagnostics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu;

/// <summary>One merge on its way through the CPU backend: blocks of rows on the worker pool. Reused between calls.</summary>
internal sealed class MergeCall : ParallelJob
{
    /// <summary>Elements of parts that an item reads, at least: 64 KB of floats take 4 us (AMD EPYC, AVX2), about what waking a thread costs, so smaller merges stay on the caller.</summary>
    private const long ItemElements = 16_384;

    private static readonly JobPool<MergeCall> Pool = new(static () => new());

    private MergeProblem _problem;
    private CpuKernels _kernels = null!;
    private long _rowsPerItem;

    private MergeCall()
    {
    }

    /// <summary>Merges; returns when the outputs are written.</summary>
    public static void Run(in MergeProblem problem, CpuExecution execution, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        CpuKernels kernels = KernelSelector.Select(execution.InstructionSet);
        if (problem.Rows == 0) return;
        MergeCall call = Pool.Rent();
        try
        {
            call.Run(problem, kernels, execution.MaxDegreeOfParallelism, cancellationToken);
        }
        finally
        {
            call._problem = default;
            Pool.Return(call);
        }
    }

    /// <inheritdoc />
    protected override void RunItem(int item, int worker)
    {
        long first = item * _rowsPerItem;
        _kernels.Merge(_problem, first, Math.Min(_rowsPerItem, _problem.Rows - first));
    }

    private void Run(in MergeProblem problem, CpuKernels kernels, int maxThreads, CancellationToken cancellationToken)
    {
        _problem = problem;
        _kernels = kernels;
        long rowElements = problem.Shape.Parts * Math.Max(1, problem.Shape.Dim);

        // Items are counted in 32 bits.
        _rowsPerItem = Math.Max((ItemElements + rowElements - 1) / rowElements, (problem.Rows / int.MaxValue) + 1);
        int items = (int)((problem.Rows + _rowsPerItem - 1) / _rowsPerItem);
        CallDescription description = AttentionTelemetry.IsEnabled ? Describe(problem.Shape) : default;
        CallTimer timer = AttentionTelemetry.Start(description);
        try
        {
            WorkerPool.Shared.Run(this, items, maxThreads, cancellationToken);
            AttentionTelemetry.Stop(timer, description);
        }
        catch (Exception exception)
        {
            AttentionTelemetry.Stop(timer, description, exception);
            throw;
        }
    }

    /// <summary>A merge has neither keys nor products of theirs; its dimension is the values'.</summary>
    private static CallDescription Describe(in MergeShape shape) =>
        new("cpu", "merge", shape.Batch * shape.Queries, Keys: 0, (int)Math.Min(int.MaxValue, shape.Heads), (int)Math.Min(int.MaxValue, shape.Dim), FloatingPointOperations: 0);
}
