using FusedAttention.Cpu.Memory;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Cpu.Threading;
using FusedAttention.Diagnostics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu;

/// <summary>One call on its way through the CPU backend: the problem, its plan and the scratch memory of its threads. Reused between calls.</summary>
internal sealed unsafe class CpuCall : ParallelJob
{
    private static readonly JobPool<CpuCall> Pool = new(static () => new());

    private readonly CpuPlan _plan = new();
    private (nint Start, long Bytes)[] _scratch = new (nint, long)[1];
    private (nint Start, long Bytes) _partials;
    private CpuKernels _kernels = null!;
    private ScoreUnits _units;

    private CpuCall()
    {
    }

    public AttentionProblem Problem { get; } = new();

    public static CpuCall Rent() => Pool.Rent();

    public void Return() => Pool.Return(this);

    /// <summary>Plans and computes <see cref="Problem"/>; returns when its outputs are written.</summary>
    public void Run((CpuExecution Execution, CancellationToken CancellationToken) how)
    {
        how.CancellationToken.ThrowIfCancellationRequested();
        Run(how, KernelSelector.Select(how.Execution.InstructionSet, how.Execution.MachineCode));
    }

    /// <summary>The same by kernels that are given.</summary>
    public void Run((CpuExecution Execution, CancellationToken CancellationToken) how, CpuKernels kernels)
    {
        _kernels = kernels;
        _kernels.Bind(Problem);
        _units = new ScoreUnits(Problem);
        int maxThreads = WorkerPool.Shared.Participants(int.MaxValue, how.Execution.MaxDegreeOfParallelism);
        _plan.Build(Problem, _kernels, maxThreads);
        if (_plan.Count == 0) return;
        if (_scratch.Length < _plan.Threads) _scratch = new (nint, long)[maxThreads];
        if (_plan.PartialFloats > 0) _partials = ScratchPool.Rent(_plan.PartialFloats * sizeof(float));
        CallDescription description = AttentionTelemetry.IsEnabled ? CallDescription.Of(Problem, "cpu", _plan.KernelName, 2 * _plan.Cost) : default;
        CallTimer timer = AttentionTelemetry.Start(description);
        try
        {
            WorkerPool.Shared.Run(this, _plan.Count, _plan.Threads, how.CancellationToken);
            AttentionTelemetry.Stop(timer, description);
        }
        catch (Exception exception)
        {
            AttentionTelemetry.Stop(timer, description, exception);
            throw;
        }
        finally
        {
            foreach (ref (nint Start, long Bytes) block in _scratch.AsSpan())
            {
                ScratchPool.Return(block);
                block = default;
            }

            ScratchPool.Return(_partials);
            _partials = default;
        }
    }

    protected override void RunItem(int item, int worker)
    {
        ref (nint Start, long Bytes) scratch = ref _scratch[worker];
        if (scratch.Start == 0) scratch = ScratchPool.Rent(_plan.ScratchBytes);
        ref readonly WorkItem work = ref _plan.Item(item);
        switch (work.Kind)
        {
            case WorkKind.Prefill: _kernels.Prefill(Problem, work, _units, (byte*)scratch.Start); break;
            case WorkKind.Decode: _kernels.Decode(Problem, work, _units, (byte*)scratch.Start, (float*)_partials.Start, _plan.RemainingChunks); break;
            case WorkKind.Wide: _kernels.Wide(Problem, work); break;
            default: throw new InvalidOperationException($"There is no kernel for {work.Kind}.");
        }
    }
}
