using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>A plan on given memory: the launches that refer to its tables.</summary>
internal readonly ref struct CallBinding
{
    /// <summary>Query, key, value and block tables.</summary>
    private const int InputBuffers = 4;

    /// <summary>What <see cref="Shared"/> has.</summary>
    private const int SharedBuffers = 8;

    /// <summary>Outputs and statistics.</summary>
    private const int PartialBuffers = 2;

    /// <summary>Of keys and of values, where those are codes.</summary>
    private const int ScaleBuffers = 2;

    private const uint SimdWidth = 32;

    private readonly ref readonly CallMemory _memory;
    private readonly ref readonly ScratchLayout _layout;
    private readonly MemoryPlace _scratch;

    private CallBinding(DevicePlan plan, in CallMemory memory, MemoryPlace scratch)
    {
        _memory = ref memory;
        _layout = ref plan.Scratch;
        _scratch = scratch;
    }

    /// <param name="problem">The call.</param>
    /// <param name="plan">Its plan, which has work.</param>
    /// <param name="tiles">The kernels that it was planned with.</param>
    /// <param name="memory">Where the tensors lie.</param>
    /// <param name="scratch">Where the tables and partial results lie.</param>
    /// <param name="functionTables">Where the tables of its functions lie.</param>
    /// <param name="launches">Receives them.</param>
    public static void Bind(
        AttentionProblem problem, DevicePlan plan, in KernelTiles tiles, in CallMemory memory, MemoryPlace scratch, ReadOnlySpan<DeviceMemory> functionTables, LaunchList launches)
    {
        var binding = new CallBinding(plan, memory, scratch);
        KernelTraits traits = KernelTraits.Of(problem, Math.Min(VectorAlignment.OfStrides(problem), VectorAlignment.OfPlaces(problem, memory)) >= TileTable.VectorElements);
        bool hasCodes = problem.KeyValueType.IsEightBit();
        int scaleBytes = hasCodes ? ScaleBuffers * Unsafe.SizeOf<ScalePlaces>() : 0;
        launches.Extend(scaleBytes + FunctionText.CapturedBytes(traits.Score, traits.Keep));
        MemoryMarshal.Write(launches.Parameters, AttentionParameters.Of(problem));
        Span<byte> behind = launches.Parameters.AsSpan(Unsafe.SizeOf<AttentionParameters>());
        if (hasCodes) WriteScales(problem, behind);
        WriteCaptured(problem, functionTables.Length, behind[scaleBytes..]);
        foreach (ref readonly LaunchRange range in plan.Launches)
        {
            bool hasPartials = range.IsMerge || range.Kernel != AttentionKernel.Prefill;
            int inputs = range.IsMerge ? 0 : InputBuffers + (hasCodes ? ScaleBuffers : 0), shared = inputs + SharedBuffers + (hasPartials ? PartialBuffers : 0);
            Span<BufferBinding> bindings = launches.Add(
                range.IsMerge ? KernelLibrary.MergeSplits(range.Kernel, traits) : KernelLibrary.Main(range.Kernel, traits),
                shared + (range.IsMerge ? 0 : functionTables.Length),
                new((uint)range.Count, (uint)problem.KeyValueHeads, 1),
                new((uint)(range.IsMerge ? TileTable.PlainSimdgroups : tiles.Simdgroups(range.Kernel)) * SimdWidth, 1, 1),
                range.Cost,
                range.BeginsSubmission);
            if (!range.IsMerge)
            {
                binding.Inputs(bindings);
                if (hasCodes) binding.Scales(bindings[InputBuffers..]);
                for (int i = 0; i < functionTables.Length; i++) bindings[shared + i] = new(BufferSlot.FunctionTables + i, functionTables[i], Offset: 0, IsWritten: false);
            }

            binding.Shared(bindings[inputs..], range.ItemsOffset);
            if (hasPartials) binding.Partials(bindings[(inputs + SharedBuffers)..], isWritten: !range.IsMerge && plan.PartialRows > 0);
        }
    }

    /// <summary>The fields that <see cref="CodeText"/> puts behind the parameter block's own.</summary>
    private static void WriteScales(AttentionProblem problem, Span<byte> fields)
    {
        MemoryMarshal.Write(fields, ScalePlaces.Of(ScaleStrides.Of(problem, areValues: false, "Metal")));
        MemoryMarshal.Write(fields[Unsafe.SizeOf<ScalePlaces>()..], ScalePlaces.Of(ScaleStrides.Of(problem, areValues: true, "Metal")));
    }

    /// <summary>The fields that <see cref="FunctionText"/> puts behind those.</summary>
    private static void WriteCaptured(AttentionProblem problem, int tables, Span<byte> captured)
    {
        FunctionCaptures.WriteParameters(problem, MemoryMarshal.Cast<byte, float>(captured));
        Span<int> shapes = MemoryMarshal.Cast<byte, int>(captured)[FunctionCaptures.ParametersOf(problem)..];
        for (int i = 0; i < tables; i++)
        {
            ScoreTable table = FunctionCaptures.TableAt(problem, i);
            (shapes[2 * i], shapes[(2 * i) + 1]) = (table.Rows, table.Columns);
        }
    }

    private void Inputs(scoped Span<BufferBinding> bindings)
    {
        bindings[0] = Input(BufferSlot.Query, _memory.Query);
        bindings[1] = Input(BufferSlot.Key, _memory.Key);
        bindings[2] = Input(BufferSlot.Value, _memory.Value);
        bindings[3] = Scratch(BufferSlot.BlockTables, _layout.BlockTables);
    }

    private void Scales(scoped Span<BufferBinding> bindings)
    {
        bindings[0] = _memory.KeyScale is MemoryPlace key ? Input(BufferSlot.KeyScale, key) : Scratch(BufferSlot.KeyScale, 0);
        bindings[1] = _memory.ValueScale is MemoryPlace value ? Input(BufferSlot.ValueScale, value) : Scratch(BufferSlot.ValueScale, 0);
    }

    /// <summary>What every kernel takes. Slots of absent tensors get the tables: Metal wants something there, and nothing is read.</summary>
    private void Shared(scoped Span<BufferBinding> bindings, long items)
    {
        bindings[0] = new(BufferSlot.Output, _memory.Output.Memory, _memory.Output.Offset, IsWritten: true);
        bindings[1] = Scratch(BufferSlot.Sequences, _layout.Sequences);
        bindings[2] = Scratch(BufferSlot.Items, items);
        bindings[3] = _memory.Mask is MemoryPlace mask ? Input(BufferSlot.Mask, mask) : Scratch(BufferSlot.Mask, 0);
        bindings[4] = _memory.Bias is MemoryPlace bias ? Input(BufferSlot.Bias, bias) : Scratch(BufferSlot.Bias, 0);
        bindings[5] = _memory.LogSumExp is MemoryPlace lse ? new(BufferSlot.LogSumExp, lse.Memory, lse.Offset, IsWritten: true) : Scratch(BufferSlot.LogSumExp, 0);
        bindings[6] = Scratch(BufferSlot.AlibiSlopes, _layout.AlibiSlopes);
        bindings[7] = Scratch(BufferSlot.SinkLogits, _layout.SinkLogits);
    }

    private void Partials(scoped Span<BufferBinding> bindings, bool isWritten)
    {
        bindings[0] = Scratch(BufferSlot.PartialOutputs, _layout.PartialOutputs) with { IsWritten = isWritten };
        bindings[1] = Scratch(BufferSlot.PartialStatistics, _layout.PartialStatistics) with { IsWritten = isWritten };
    }

    private static BufferBinding Input(int slot, MemoryPlace place) => new(slot, place.Memory, place.Offset, IsWritten: false);

    private BufferBinding Scratch(int slot, long offset) => new(slot, _scratch.Memory, _scratch.Offset + offset, IsWritten: false);
}
