using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Devices;
using FusedAttention.Diagnostics;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;
using FusedAttention.Cuda.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Calls;

/// <summary>
/// One attention call on its way to the device: what the three forms share. The form itself is which method of <see cref="ProblemBuilder"/> fills <see cref="Problem"/>. Reused between calls, with the
/// problem and the plan, so that a call allocates nothing in steady state.
/// </summary>
internal sealed class AttentionCall : IDisposable
{
    public const string Backend = "cuda";

    private static readonly CallPool<AttentionCall> Pool = new(static () => new AttentionCall());

    private readonly CudaPlan _plan = new();
    private CallUses _uses;
    private CallMemory _memory;
    private CallTensors _tensors;
    private TablePlace? _blockTables;

    private AttentionCall()
    {
    }

    /// <summary>For <see cref="ProblemBuilder"/>: the tensors, at their addresses on the device, which nobody here follows.</summary>
    public ref readonly CallTensors Tensors => ref _tensors;

    public AttentionProblem Problem { get; } = new();

    /// <summary>Takes the tensors of a call and holds them until it is disposed, once.</summary>
    public static AttentionCall Of<TQuery, TKeyValue>(
        CudaTensor<TQuery> query, CudaTensor<TKeyValue> key, string keyName, CudaTensor<TKeyValue> value, string valueName, CudaTensor<TQuery> output, scoped in CudaOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(key, keyName);
        ArgumentNullException.ThrowIfNull(value, valueName);
        ArgumentNullException.ThrowIfNull(output);
        AttentionCall call = Pool.Rent();
        try
        {
            call.Take(query, key, keyName, value, valueName, output, operands);
            return call;
        }
        catch
        {
            call.Dispose();
            throw;
        }
    }

    /// <summary>Takes block tables that lie on the device.</summary>
    /// <param name="tables"><c>[sequences, max blocks per sequence]</c>.</param>
    /// <param name="sequences">Of the call.</param>
    /// <returns>Entries of a row.</returns>
    public int TakeBlockTables(CudaTensor<int> tables, int sequences)
    {
        ArgumentNullException.ThrowIfNull(tables, nameof(CudaPagedSequences.BlockTables));
        TensorLayout layout = LayoutOf(tables);
        if (layout.Rank != 2 || layout.Lengths[0] != sequences || layout.Lengths[1] > int.MaxValue || (layout.Lengths[1] > 1 && layout.Strides[1] != 1))
            throw new ArgumentException($"BlockTables is {tables}; expected [{sequences}, max blocks per sequence] with the entries of a row side by side.", nameof(sequences));
        _blockTables = new(_uses.Add(tables, nameof(CudaPagedSequences.BlockTables), nameof(sequences)), layout.Strides[0] * sizeof(int));
        return (int)layout.Lengths[1];
    }

    /// <summary>The operands that <see cref="ProblemBuilder"/> reads beside the tensors.</summary>
    public static AttentionOperands LengthsOf(scoped in CudaOperands operands) => new() { KeyLengths = operands.KeyLengths, QueryOffsets = operands.QueryOffsets };

    public static TensorLayout LayoutOf(CudaTensor tensor) => TensorLayout.Of(tensor.Lengths, tensor.Strides);

    /// <summary>Plans <see cref="Problem"/> and queues the work.</summary>
    /// <param name="stream">Where; null for the device's default stream.</param>
    /// <param name="cancellationToken">Looked at once.</param>
    public void Queue(CudaStream? stream, CancellationToken cancellationToken)
    {
        CudaDevice device = _uses.Device;
        CudaStream queue = device.StreamOf(stream, nameof(stream));
        cancellationToken.ThrowIfCancellationRequested();
        _plan.Build(Problem, device.Description, CudaPlan.HasAlignedPlaces(_memory) && CudaPlan.HasAlignedStrides(Problem), form: device.PrefillForm, items: device.DecodeItems, copies: device.DecodeCopies);
        if (_plan.WorkItems == 0) return;
        CallDescription description = AttentionTelemetry.IsEnabled ? CallDescription.Of(Problem, Backend, _plan.Kernel, 2 * Problem.MultiplyAdds()) : default;
        CallTimer timer = AttentionTelemetry.Start(description);
        try
        {
            Submit(device, queue);
            AttentionTelemetry.Stop(timer, description);
        }
        catch (Exception exception)
        {
            AttentionTelemetry.Stop(timer, description, exception);
            throw;
        }
    }

    public void Dispose()
    {
        // Nothing of the call may be kept alive by a call that waits for its next use.
        _uses.Dispose();
        _memory = default;
        _tensors = default;
        _blockTables = null;
        (Problem.ScoreFunction, Problem.MaskFunction) = (null, null);
        Pool.Return(this);
    }

    private unsafe void Submit(CudaDevice device, CudaStream stream)
    {
        // Loading takes long and may fail: before the stream is taken, and before anything is on it.
        for (int i = 0; i < _plan.Launches; i++) device.Runtime.Prepare(_plan.FunctionAt(i));
        if (_blockTables is not null) device.Runtime.Prepare(TablePlan.Function);
        Span<ulong> functionTables = stackalloc ulong[FunctionCaptures.TablesOf(Problem)];
        int tensors = _uses.All.Length;
        for (int i = 0; i < functionTables.Length; i++) functionTables[i] = _uses.AddTable(device.FunctionTables.Of(FunctionCaptures.TableAt(Problem, i)));
        using Submission work = new(stream, _uses.All);
        if (work.IsCapturing) stream.KeepForGraphs(_uses.All[tensors..]);
        MemoryPlace scratch = default, tables = default;
        if (_plan.ScratchBytes > 0) scratch = work.Transient.Take(_plan.ScratchBytes);
        if (_plan.StagedBytes > 0)
        {
            tables = work.Pinned.Take(_plan.StagedBytes);
            _plan.WriteTables(tables.Memory.Pointer + tables.Offset);
        }

        _plan.Bind(_memory, _plan.ScratchBytes > 0 ? scratch.Address() : 0, Problem.BlockSize > 0 ? (int)_tensors.Key.Layout.Lengths[0] : 0, device.TensorMaps, functionTables);
        (MemoryPlace From, MemoryPlace To)? ranges = _blockTables is not null && Problem.SequenceCount > TablePlan.MostInlineRanges ? StageRanges(work) : null;
        work.Begin();
        if (_plan.Counters > 0) _plan.SetCounters(work.Counters(_plan.Counters * sizeof(uint)).Address());
        if (_plan.StagedBytes > 0) work.CopyToDevice(scratch, tables, _plan.StagedBytes);
        if (_blockTables is { } blockTables) CheckTables(work, blockTables, scratch.Address() + (ulong)_plan.BlockTablesOffset, stream.TableFaults.Address, ranges);
        for (int i = 0; i < _plan.Launches; i++) work.Launch(_plan.LaunchAt(i));
        work.End();
    }

    /// <summary>Which entries of the block tables are needed, in pinned memory.</summary>
    private unsafe (MemoryPlace From, MemoryPlace To) StageRanges(in Submission work)
    {
        long bytes = (long)Problem.SequenceCount * sizeof(TableRange);
        MemoryPlace from = work.Pinned.Take(bytes);
        TablePlan.WriteRanges(Problem, new Span<TableRange>(from.Memory.Pointer + from.Offset, Problem.SequenceCount));
        return (from, work.Transient.Take(bytes));
    }

    /// <summary>Queues the kernel that checks block tables and puts them where the others look, behind the copy of the tables that the host wrote.</summary>
    [SkipLocalsInit]
    private unsafe void CheckTables(in Submission work, in TablePlace tables, ulong destination, ulong fault, (MemoryPlace From, MemoryPlace To)? ranges)
    {
        Span<byte> parameters = stackalloc byte[CallBlock.MostParameterBytes];
        if (ranges is { } staged) work.CopyToDevice(staged.To, staged.From, (long)Problem.SequenceCount * sizeof(TableRange));
        else TablePlan.WriteRanges(Problem, TablePlan.InlineRanges(parameters));
        work.Launch(TablePlan.Check(Problem.SequenceCount, tables, destination, fault, (int)_tensors.Key.Layout.Lengths[0], ranges?.To, parameters));
    }

    private unsafe void Take<TQuery, TKeyValue>(
        CudaTensor<TQuery> query, CudaTensor<TKeyValue> key, string keyName, CudaTensor<TKeyValue> value, string valueName, CudaTensor<TQuery> output, scoped in CudaOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        _uses = new(query.Device);
        _memory = new(
            _uses.Add(query, nameof(query), nameof(query)), _uses.Add(key, keyName, keyName), _uses.Add(value, valueName, valueName),
            _uses.Add(output, nameof(output), nameof(output), isWritten: true),
            operands.BooleanMask is { } mask ? _uses.Add(mask, nameof(operands.BooleanMask), nameof(operands)) : null,
            operands.Bias is { } bias ? _uses.Add(bias, nameof(operands.Bias), nameof(operands)) : null,
            operands.LogSumExp is { } logSumExp ? _uses.Add(logSumExp, nameof(operands.LogSumExp), nameof(operands), isWritten: true) : null,
            operands.KeyScale is { } keyScale ? _uses.Add(keyScale, nameof(operands.KeyScale), nameof(operands)) : null,
            operands.ValueScale is { } valueScale ? _uses.Add(valueScale, nameof(operands.ValueScale), nameof(operands)) : null);
        _tensors = CallTensors.Of(
            TensorArgument.Of(query.First, LayoutOf(query), nameof(query)), TensorArgument.OfKeyValue(key.First, LayoutOf(key), keyName),
            TensorArgument.OfKeyValue(value.First, LayoutOf(value), valueName), TensorArgument.Of(output.First, LayoutOf(output), nameof(output)));
        if (operands.BooleanMask is not null) _tensors.Mask = TensorArgument.OfMask(operands.BooleanMask.First, LayoutOf(operands.BooleanMask));
        if (operands.Bias is not null)
        {
            _tensors.Bias = TensorArgument.Of(
                (void*)operands.Bias.Address, LayoutOf(operands.Bias), BiasTypeOf(operands.Bias, nameof(operands)), nameof(operands.Bias));
        }

        if (operands.KeyScale is not null) _tensors.KeyScale = TensorArgument.Of(operands.KeyScale.First, LayoutOf(operands.KeyScale), nameof(operands.KeyScale));
        if (operands.ValueScale is not null) _tensors.ValueScale = TensorArgument.Of(operands.ValueScale.First, LayoutOf(operands.ValueScale), nameof(operands.ValueScale));
        if (operands.LogSumExp is not null) _tensors.LogSumExp = TensorArgument.Of(operands.LogSumExp.First, LayoutOf(operands.LogSumExp), nameof(operands.LogSumExp));
    }

    private static AttentionElementType BiasTypeOf(CudaTensor bias, string argument) => bias switch
    {
        CudaTensor<float> => AttentionElementType.Float32,
        CudaTensor<Half> => AttentionElementType.Float16,
        CudaTensor<BFloat16> => AttentionElementType.BFloat16,
        _ => throw new ArgumentException($"Bias has elements of type {bias.ElementType.Name}; expected float, Half or BFloat16.", argument),
    };
}
