using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>
/// What a call does on a device: which kernels over which work items, and the launches of that. Made without running or compiling anything. Reused between calls, so that a call allocates nothing in steady
/// state: words about it are made when they are asked for.
/// </summary>
internal sealed class MetalPlan
{
    private readonly DevicePlan _plan = new();
    private readonly LaunchList _launches = new(BufferSlot.Parameters, Unsafe.SizeOf<AttentionParameters>());
    private AttentionProblem _problem = null!;
    private MetalDeviceDescription _device = null!;
    private KernelTiles _tiles;

    /// <summary>The kernels: <c>prefill</c>, <c>decode</c>, <c>plain</c>, joined by <c>+</c>; <c>none</c> for an empty call.</summary>
    public string Kernel => _plan.KernelName;

    /// <summary>Bytes of tables and partial results.</summary>
    public long ScratchBytes => _plan.Scratch.Bytes;

    /// <summary>Threadgroups, all launches together.</summary>
    public long WorkItems => _plan.ItemCount * _problem.KeyValueHeads;

    /// <summary>Tiles, splits and the reasons for them, one line each.</summary>
    public string Details => PlanDetails.Of(_problem, _device, _tiles, _plan);

    /// <summary>Every function the plan launches on tensors that begin at multiples of 16 bytes, for compiling ahead.</summary>
    public ImmutableArray<KernelFunction> Functions => FunctionsOf(IsAligned(_problem));

    /// <summary>The same on tensors that begin anywhere.</summary>
    public ImmutableArray<KernelFunction> UnalignedFunctions => FunctionsOf(isAligned: false);

    /// <inheritdoc cref="Build"/>
    public static MetalPlan Of(AttentionProblem problem, MetalDeviceDescription device, AttentionKernel? forced = null, double budget = CommandBufferBudget.First)
    {
        var plan = new MetalPlan();
        plan.Build(problem, device, forced, budget);
        return plan;
    }

    /// <summary>Whether strides and starts of the call allow loading vectors, where the tensors' beginnings do.</summary>
    public static bool IsAligned(AttentionProblem problem) => VectorAlignment.OfStrides(problem) >= TileTable.VectorElements;

    /// <param name="problem">The call; its pointers are not looked at.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="forced">The only kernel to use; null for the choice that calls get.</param>
    /// <param name="budget">What a command buffer may cost: <see cref="IMetalRuntime.SubmissionBudget"/>.</param>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions, the call's numbers leave <see cref="FloatRange"/>, or its functions have captured too much; the message has the numbers.</exception>
    public void Build(AttentionProblem problem, MetalDeviceDescription device, AttentionKernel? forced = null, double budget = CommandBufferBudget.First)
    {
        (_problem, _device) = (problem, device);
        _tiles = KernelTiles.Of(problem, device, budget, forced);
        _plan.Build(problem, _tiles);
    }

    /// <summary>
    /// The launches of the plan on given memory, in command buffers of bounded work; valid until the next call of this or of <see cref="Release"/>. Writes the tables into transient memory.
    /// </summary>
    /// <param name="problem">The call that was planned.</param>
    /// <param name="memory">Where its tensors lie.</param>
    /// <param name="transient">For its tables and partial results.</param>
    /// <param name="functionTables">Where the tables of its functions lie, in the order of <see cref="FunctionCaptures"/>.</param>
    public unsafe LaunchList Bind(AttentionProblem problem, in CallMemory memory, ITransientMemory transient, ReadOnlySpan<DeviceMemory> functionTables)
    {
        _launches.Clear();
        if (_plan.IsEmpty) return _launches;
        MemoryPlace scratch = transient.Take(_plan.Scratch.Bytes);
        CallTables.Write(problem, _plan, scratch.Memory.Pointer + scratch.Offset);
        CallBinding.Bind(problem, _plan, _tiles, memory, scratch, functionTables, _launches);
        return _launches;
    }

    /// <summary>Lets go of memory that the launches refer to.</summary>
    public void Release() => _launches.Clear();

    private ImmutableArray<KernelFunction> FunctionsOf(bool isAligned)
    {
        var functions = ImmutableArray.CreateBuilder<KernelFunction>();
        KernelTraits traits = KernelTraits.Of(_problem, isAligned);
        foreach (LaunchRange launch in _plan.Launches)
        {
            KernelFunction function = launch.IsMerge ? KernelLibrary.MergeSplits(launch.Kernel, traits) : KernelLibrary.Main(launch.Kernel, traits);
            if (!functions.Contains(function)) functions.Add(function);
        }

        return functions.DrainToImmutable();
    }
}
