using System.Collections.Immutable;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Planning;

/// <summary>
/// What a call does on a device: which kernels over which work items, and the launches of that. Made without running or compiling anything. Reused between calls, so that a call allocates nothing in steady
/// state: words about it are made when they are asked for.
/// </summary>
internal sealed unsafe class CudaPlan
{
    private readonly DevicePlan _plan = new();
    private byte[] _parameters = [];
    private AttentionProblem _problem = null!;
    private CudaDeviceDescription _device = null!;
    private KernelTiles _tiles;
    private KernelTraits _traits;
    private TileMapLayout _map;

    /// <summary>The kernels: <c>prefill</c>, <c>decode</c>, <c>plain</c>, joined by <c>+</c>; <c>none</c> for an empty call.</summary>
    public string Kernel => _plan.KernelName;

    /// <summary>Blocks of threads, all launches together.</summary>
    public long WorkItems => _plan.ItemCount * _problem.KeyValueHeads;

    /// <summary>Whether strides and beginnings are multiples of <see cref="TileTable.VectorElements"/> elements.</summary>
    public bool IsAligned { get; private set; }

    /// <summary>Whether the tables travel in the launches' parameter.</summary>
    public bool HasInlineTables => TablesAt > 0;

    /// <summary>Where in the parameter they do.</summary>
    private int TablesAt => CallBinding.TablesAt(
        _problem, _traits, _plan.Scratch, HasBoxes ? DecodeBoxBlock.Offset : HasWarpgroups ? WarpgroupBlock.Offset : CallBlock.MostParameterBytes, _tiles.HasLongParameters);

    /// <summary>Bytes of tables that are staged: written by <see cref="WriteTables"/> and copied to the beginning of the scratch memory; 0 where they are inline.</summary>
    public long StagedBytes => HasInlineTables ? 0 : _plan.Scratch.TableBytes;

    /// <summary>Bytes of staged tables, partial results and the map of tiles.</summary>
    public long ScratchBytes => MapOffset + _map.Bytes;

    /// <summary>Where in the scratch memory the map of tiles is: behind everything else.</summary>
    private long MapOffset => _plan.Scratch.Bytes - (HasInlineTables ? _plan.Scratch.TableBytes : 0);

    /// <summary>Words that are zero between launches: those of the scheduler of warpgroups, and behind them those that count arrived splits, by the number of a partial row.</summary>
    public long Counters => SchedulerWords + _plan.PartialRows;

    /// <summary>How many launches there are.</summary>
    public int Launches => MapLaunches + _plan.Launches.Length;

    /// <summary>How many of them come before those of attention kernels: 1 where a mask function is asked first which tiles are seen.</summary>
    public int MapLaunches => _map.Items > 0 ? 1 : 0;

    /// <summary>Tiles, splits and the reasons for them, one line each.</summary>
    public string Details => PlanDetails.Of(_problem, _device, IsAligned, _tiles, _plan, HasInlineTables, MapLaunches > 0);

    /// <summary>Every function that the plan launches, for compiling ahead; and, of a decode, that of more or fewer sequences, whose tables are longer or shorter.</summary>
    public ImmutableArray<KernelFunction> Functions
    {
        get
        {
            var functions = ImmutableArray.CreateBuilder<KernelFunction>(Launches + 1);
            for (int i = 0; i < Launches; i++) functions.Add(FunctionAt(i));
            if (_tiles.HasLongParameters && _plan.ItemsOf(AttentionKernel.Decode).Count > 0)
                functions.Add(KernelLibrary.Of(AttentionKernel.Decode, _traits, _tiles with { HasLongParameters = !IsLong(AttentionKernel.Decode) }));
            return functions.DrainToImmutable();
        }
    }

    /// <summary>Whether a launch is of the prefill by warpgroups.</summary>
    private bool HasWarpgroups => _tiles.Warpgroups is not null && _plan.ItemsOf(AttentionKernel.Prefill).Count > 0;

    /// <summary>Whether a launch is of the decode that has its keys and values come in boxes.</summary>
    private bool HasBoxes => _tiles.Decode is { HasBoxes: true } && _plan.ItemsOf(AttentionKernel.Decode).Count > 0;

    private int SchedulerWords => HasWarpgroups ? WarpgroupBinding.SchedulerWords : 0;

    /// <inheritdoc cref="Build"/>
    public static CudaPlan Of(AttentionProblem problem, CudaDeviceDescription device, bool isAligned, AttentionKernel? forced = null, PrefillForm? form = null, ItemKeys? items = null, DecodeCopies? copies = null)
    {
        var plan = new CudaPlan();
        plan.Build(problem, device, isAligned, forced, form, items, copies);
        return plan;
    }

    /// <summary>Whether strides and starts of the call are multiples of <see cref="TileTable.VectorElements"/> elements, and of <see cref="TileTable.VectorBytes"/> where keys and values have 8 bits, those of the output too: rows of results are stored in vectors.</summary>
    public static bool HasAlignedStrides(AttentionProblem problem)
    {
        long output = problem.OutputTokenStride | problem.OutputHeadStride;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences) output |= sequence.OutputStart;
        return output % TileTable.VectorElements == 0 && VectorAlignment.OfStrides(problem) >= (problem.KeyValueType.IsEightBit() ? TileTable.VectorBytes : TileTable.VectorElements);
    }

    /// <summary>Whether the tensors begin at multiples of a vector. By addresses: the caller's memory may lie anywhere.</summary>
    public static bool HasAlignedPlaces(in CallMemory memory) =>
        (memory.Query.Address() | memory.Key.Address() | memory.Value.Address() | memory.Output.Address()) % TileTable.VectorBytes == 0;

    /// <param name="problem">The call; its pointers are not looked at.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="isAligned">Whether strides and beginnings are multiples of <see cref="TileTable.VectorElements"/>.</param>
    /// <param name="forced">The only kernel to use; null for the choice that calls get.</param>
    /// <param name="form">The form of the prefill where both take the call; null for the one that calls get.</param>
    /// <param name="items">What items of a decode take; null for what is fastest.</param>
    /// <param name="copies">The form of the decode where both take the call; null for the one that calls get.</param>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions or heads, or the call's numbers leave <see cref="FloatRange"/>; the message has them.</exception>
    public void Build(AttentionProblem problem, CudaDeviceDescription device, bool isAligned, AttentionKernel? forced = null, PrefillForm? form = null, ItemKeys? items = null, DecodeCopies? copies = null)
    {
        (_problem, _device, IsAligned) = (problem, device, isAligned);
        _tiles = KernelTiles.Of(problem, device, isAligned, forced, form, items, copies);
        int parameterBytes = CallBlock.BytesOf(_tiles.HasLongParameters);
        if (_parameters.Length != parameterBytes) _parameters = new byte[parameterBytes];
        _traits = KernelTraits.Of(problem, isAligned);
        _plan.Build(problem, _tiles);
        int prefilled = _plan.ItemsOf(AttentionKernel.Prefill).Count;
        _map = problem.MaskFunction is not null && !problem.HasMask && prefilled > 0 ? TileMapLayout.Of(problem, _traits, _tiles.PrefillKeys, prefilled) : default;
        foreach (ref readonly LaunchRange range in _plan.Launches)
        {
            if ((long)range.Count * problem.KeyValueHeads > int.MaxValue)
                throw new NotSupportedException($"A launch of {range.Count} work items x {problem.KeyValueHeads} key/value heads is beyond what the kernels count: {int.MaxValue}.");
        }
    }

    /// <summary>Where block tables that the device checks go, from the beginning of the scratch memory.</summary>
    public long BlockTablesOffset => _plan.Scratch.BlockTables;

    /// <summary>Writes the tables that are staged.</summary>
    /// <param name="destination"><see cref="StagedBytes"/>.</param>
    public void WriteTables(byte* destination) => CallTables.Write(_problem, _plan, destination);

    /// <summary>Puts the plan, which has work, on memory; <see cref="LaunchAt"/> gives its launches from then on.</summary>
    /// <param name="memory">Where the tensors lie.</param>
    /// <param name="scratch">Where <see cref="ScratchBytes"/> of the device lie: staged tables, and partial results behind them. Anything if that is 0.</param>
    /// <param name="blocks">Blocks of a paged cache; 0 without pages.</param>
    /// <param name="maps">The device's: tensors as the copy unit is told of them.</param>
    /// <param name="functionTables">Where the tables of the call's functions lie on the device.</param>
    public void Bind(in CallMemory memory, ulong scratch, int blocks, TensorMapCache maps, ReadOnlySpan<ulong> functionTables = default)
    {
        CallBinding.Write(_problem, _plan, memory, scratch, TablesAt, _parameters);
        FunctionBinding.Write(_problem, _traits, functionTables, _map.At(scratch + (ulong)MapOffset), _parameters);
        if (HasWarpgroups) WarpgroupBinding.Write(_problem, _tiles.Warpgroups!.Value, _plan.ItemsOf(AttentionKernel.Prefill).Count, memory, blocks, maps, _parameters);
        if (HasBoxes) DecodeMaps.Write(_problem, _tiles.Decode!.Value, memory, blocks, maps, _parameters);
    }

    /// <summary>Says where <see cref="Counters"/> words lie, which are zero before the launches and behind them.</summary>
    public void SetCounters(ulong counters)
    {
        CallBinding.SetCounters(_parameters, counters + ((ulong)SchedulerWords * sizeof(uint)));
        if (HasWarpgroups) WarpgroupBinding.SetScheduler(_parameters, counters);
    }

    /// <summary>The function of a launch.</summary>
    /// <param name="index">From 0 to <see cref="Launches"/> - 1.</param>
    public KernelFunction FunctionAt(int index)
    {
        if (index < MapLaunches) return KernelLibrary.TileMapOf(_traits, _tiles);
        AttentionKernel kernel = _plan.Launches[index - MapLaunches].Kernel;
        return KernelLibrary.Of(kernel, _traits, _tiles with { HasLongParameters = IsLong(kernel) });
    }

    /// <summary>
    /// Whether a kernel's parameter is the long one. The driver copies all of it at each launch: 32 KB take 3 us, as long as the rest of the launch, and of a short decode the processor's time is what its callers wait for.
    /// So decoding has two kernels; the others, which take longer themselves, and longer to compile, one.
    /// </summary>
    private bool IsLong(AttentionKernel kernel) => _tiles.HasLongParameters && (kernel != AttentionKernel.Decode || TablesAt >= CallBlock.MostParameterBytes);

    /// <summary>A launch; valid until another one is asked for.</summary>
    /// <param name="index">From 0 to <see cref="Launches"/> - 1.</param>
    public KernelLaunch LaunchAt(int index)
    {
        if (index < MapLaunches)
        {
            foreach (ref readonly LaunchRange prefill in _plan.Launches)
                if (prefill.Kernel == AttentionKernel.Prefill) CallBinding.SetItems(_parameters, prefill);
            return new(FunctionAt(index), (uint)_map.Items, (uint)_map.Blocks, (uint)_map.Heads, _parameters);
        }

        LaunchRange range = _plan.Launches[index - MapLaunches];
        CallBinding.SetItems(_parameters, range);
        (uint x, uint y) = GridOf(range);
        return new(FunctionAt(index), x, y, 1, _parameters.AsSpan(0, CallBlock.BytesOf(IsLong(range.Kernel))));
    }

    /// <summary>Blocks along x and y. Warpgroups stay, a block a multiprocessor, and share the work among them. Else the heads of an item side by side where it is decoded, since what they read lies side by side; else items, which read the same keys.</summary>
    private (uint X, uint Y) GridOf(in LaunchRange range) => range.Kernel switch
    {
        AttentionKernel.Prefill when HasWarpgroups => ((uint)Math.Min((long)range.Count * _problem.KeyValueHeads, _device.Multiprocessors), 1),
        AttentionKernel.Decode => (checked((uint)((long)range.Count * _problem.KeyValueHeads)), 1),
        _ => ((uint)range.Count, (uint)_problem.KeyValueHeads),
    };
}
