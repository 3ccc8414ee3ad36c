using System.Numerics.Tensors;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>
/// Calls on tensor spans, on a GPU: into tensors with the same strides and back. By way of <see cref="CudaAttention"/>, or of the plan alone where one kernel is forced. For one thread.
/// </summary>
/// <param name="device">The GPU.</param>
/// <param name="forced">The only kernel to use; null for the planner's choice, through the public door.</param>
/// <param name="stream">Where; null for the device's default one.</param>
internal sealed unsafe class GpuCaller(CudaDevice device, AttentionKernel? forced = null, CudaStream? stream = null) : ICallTarget, IDisposable
{
    private readonly GpuArena _arena = new(device, stream ?? device.DefaultStream);

    public AttentionKernel? Forced { get; } = forced;

    /// <summary>Elements by which query, key, value and output miss the beginning of a vector.</summary>
    public int Shift { get; set; }

    /// <summary>How often each call is made; all times must give the same bytes.</summary>
    public int Times { get; set; } = 1;

    /// <summary>What items of a decode take, where a kernel is forced; null: what the plan finds fastest.</summary>
    public ItemKeys? Items { get; set; }

    /// <summary>The form of the decode, where a kernel is forced; null: the device's.</summary>
    public DecodeCopies? Copies { get; set; }

    /// <summary>What the last call ran, where a kernel is forced.</summary>
    public string Kernel { get; private set; } = "";

    /// <summary>The text's name of the first of it, where a kernel is forced.</summary>
    public string EntryPoint { get; private set; } = "";

    /// <summary>Partial rows of the last call's splits, where a kernel is forced.</summary>
    public long PartialRows { get; private set; }

    public void Dispose() => _arena.Dispose();

    public void Dense<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => Run(query, key, value, output, operands, new DenseCall(options));

    public void Packed<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] cumulativeKeys, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => Run(query, key, value, output, operands, new PackedCall(options, cumulativeQueries, cumulativeKeys));

    public void Paged<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => Run(query, keyCache, valueCache, output, operands, new PagedCall(options, cumulativeQueries, contextLengths, blockTables, maxBlocksPerSequence));

    private void Run<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        scoped in AttentionOperands operands, ICall call)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        TensorLayout q = TensorLayout.Of(query), k = TensorLayout.Of(key), v = TensorLayout.Of(value), o = TensorLayout.Of(output);
        TensorLayout keyScale = TensorLayout.Of(operands.KeyScale), valueScale = TensorLayout.Of(operands.ValueScale);
        TensorLayout mask = TensorLayout.Of(operands.BooleanMask), bias = operands.Bias.Layout, lse = TensorLayout.Of(operands.LogSumExp);
        _arena.Begin(((q.Extent + o.Extent) * sizeof(TQuery)) + ((k.Extent + v.Extent) * sizeof(TKeyValue)) + mask.Extent + ((bias.Extent + lse.Extent + keyScale.Extent + valueScale.Extent) * sizeof(float)) + (8 * 64), tensors: 9);
        fixed (TQuery* queryFirst = query, outputFirst = output)
        fixed (TKeyValue* keyFirst = key, valueFirst = value)
        fixed (bool* maskFirst = operands.BooleanMask)
        fixed (byte* biasFirst = operands.Bias)
        fixed (float* lseFirst = operands.LogSumExp, keyScaleFirst = operands.KeyScale, valueScaleFirst = operands.ValueScale)
        {
            int biasBytes = operands.Bias.IsAbsent ? 0 : operands.Bias.ElementType.Size();
            var placed = new Placed(
                _arena.Add("query", queryFirst, q.Extent * sizeof(TQuery), false, Shift * sizeof(TQuery)), _arena.Add("key", keyFirst, k.Extent * sizeof(TKeyValue), false, Shift * sizeof(TKeyValue)),
                _arena.Add("value", valueFirst, v.Extent * sizeof(TKeyValue), false, Shift * sizeof(TKeyValue)), _arena.Add("output", outputFirst, o.Extent * sizeof(TQuery), true, Shift * sizeof(TQuery)),
                mask.IsAbsent ? -1 : _arena.Add("mask", maskFirst, mask.Extent, false), bias.IsAbsent ? -1 : _arena.Add("bias", biasFirst, bias.Extent * biasBytes, false),
                lse.IsAbsent ? -1 : _arena.Add("log-sum-exp", lseFirst, lse.Extent * sizeof(float), true),
                keyScale.IsAbsent ? -1 : _arena.Add("key scale", keyScaleFirst, keyScale.Extent * sizeof(float), false), valueScale.IsAbsent ? -1 : _arena.Add("value scale", valueScaleFirst, valueScale.Extent * sizeof(float), false));
            string what = $"query {Words(q)}, key {Words(k)}, value {Words(v)}, output {Words(o)}, mask {Words(mask)}, bias {Words(bias)}, log-sum-exp {Words(lse)}, scales {Words(keyScale)} and {Words(valueScale)}, shifted by {Shift} elements, kernel {Forced?.ToString() ?? "chosen"}";
            try
            {
                for (int time = 0; time < Times; time++)
                {
                    _arena.Upload();
                    GpuTrace.Write(what);
                    if (Forced is null)
                    {
                        var tensors = new CudaOperands { KeyLengths = operands.KeyLengths, QueryOffsets = operands.QueryOffsets };
                        if (!mask.IsAbsent) tensors.BooleanMask = Tensor<bool>(placed.Mask, mask);
                        if (!lse.IsAbsent) tensors.LogSumExp = Tensor<float>(placed.LogSumExp, lse);
                        if (!keyScale.IsAbsent) tensors.KeyScale = Tensor<float>(placed.KeyScale, keyScale);
                        if (!valueScale.IsAbsent) tensors.ValueScale = Tensor<float>(placed.ValueScale, valueScale);
                        if (!bias.IsAbsent)
                        {
                            tensors.Bias = operands.Bias.ElementType switch
                            {
                                AttentionElementType.Float32 => Tensor<float>(placed.Bias, bias),
                                AttentionElementType.Float16 => Tensor<Half>(placed.Bias, bias),
                                _ => Tensor<BFloat16>(placed.Bias, bias),
                            };
                        }

                        call.Forward(Tensor<TQuery>(placed.Query, q), Tensor<TKeyValue>(placed.Key, k), Tensor<TKeyValue>(placed.Value, v), Tensor<TQuery>(placed.Output, o), tensors, stream);
                    }
                    else
                    {
                        CallTensors tensors = CallTensors.Of(
                            TensorArgument.Of((TQuery*)_arena.AddressOf(placed.Query), q, "query"), TensorArgument.OfKeyValue((TKeyValue*)_arena.AddressOf(placed.Key), k, "key"),
                            TensorArgument.OfKeyValue((TKeyValue*)_arena.AddressOf(placed.Value), v, "value"), TensorArgument.Of((TQuery*)_arena.AddressOf(placed.Output), o, "output"));
                        if (!mask.IsAbsent) tensors.Mask = TensorArgument.OfMask((bool*)_arena.AddressOf(placed.Mask), mask);
                        if (!bias.IsAbsent) tensors.Bias = TensorArgument.Of((void*)_arena.AddressOf(placed.Bias), bias, operands.Bias.ElementType, "Bias");
                        if (!lse.IsAbsent) tensors.LogSumExp = TensorArgument.Of((float*)_arena.AddressOf(placed.LogSumExp), lse, "LogSumExp");
                        if (!keyScale.IsAbsent) tensors.KeyScale = TensorArgument.Of((float*)_arena.AddressOf(placed.KeyScale), keyScale, "KeyScale");
                        if (!valueScale.IsAbsent) tensors.ValueScale = TensorArgument.Of((float*)_arena.AddressOf(placed.ValueScale), valueScale, "ValueScale");
                        int blocks = (int)k.Lengths[0];
                        call.Build(tensors, new AttentionOperands { KeyLengths = operands.KeyLengths, QueryOffsets = operands.QueryOffsets }, problem => Submit(problem, placed, blocks));
                    }

                    if (time == 0) _arena.Download(what, lse.IsAbsent ? [(placed.Output, (nint)outputFirst)] : [(placed.Output, (nint)outputFirst), (placed.LogSumExp, (nint)lseFirst)]);
                    else _arena.AssertSame($"run {time}: {what}");
                }
            }
            catch (CudaException failure)
            {
                throw new CudaException($"{failure.Message}\n{what}", failure);
            }
        }
    }

    /// <summary>What <c>AttentionCall</c> does, with one kernel.</summary>
    private void Submit(AttentionProblem problem, in Placed placed, int blocks)
    {
        var memory = new CallMemory(
            _arena.PlaceOf(placed.Query), _arena.PlaceOf(placed.Key), _arena.PlaceOf(placed.Value), _arena.PlaceOf(placed.Output),
            placed.Mask < 0 ? null : _arena.PlaceOf(placed.Mask), placed.Bias < 0 ? null : _arena.PlaceOf(placed.Bias), placed.LogSumExp < 0 ? null : _arena.PlaceOf(placed.LogSumExp),
            placed.KeyScale < 0 ? null : _arena.PlaceOf(placed.KeyScale), placed.ValueScale < 0 ? null : _arena.PlaceOf(placed.ValueScale));
        CudaPlan plan = CudaPlan.Of(problem, device.Description, CudaPlan.HasAlignedPlaces(memory) && CudaPlan.HasAlignedStrides(problem), Forced, device.PrefillForm, Items ?? device.DecodeItems, Copies ?? device.DecodeCopies);
        (Kernel, PartialRows, EntryPoint) = (plan.Kernel, plan.Counters, plan.Launches > 0 ? plan.FunctionAt(plan.MapLaunches).EntryPoint : "");
        if (plan.WorkItems == 0) return;
        for (int i = 0; i < plan.Launches; i++) device.Runtime.Prepare(plan.FunctionAt(i));
        TensorMemory[] functionTables = [.. Enumerable.Range(0, FunctionCaptures.TablesOf(problem)).Select(i => device.FunctionTables.Of(FunctionCaptures.TableAt(problem, i)))];
        MemoryUse[] uses = [new(_arena.Memory, IsWritten: true), .. functionTables.Select(static memory => new MemoryUse(memory, IsWritten: false))];
        foreach (MemoryUse use in uses) use.Memory.Hold();
        try
        {
            using Submission work = new(stream ?? device.DefaultStream, uses);
            MemoryPlace scratch = default, tables = default;
            if (plan.ScratchBytes > 0) scratch = work.Transient.Take(plan.ScratchBytes);
            if (plan.StagedBytes > 0)
            {
                tables = work.Pinned.Take(plan.StagedBytes);
                plan.WriteTables(tables.Memory.Pointer + tables.Offset);
            }

            plan.Bind(memory, plan.ScratchBytes > 0 ? scratch.Address() : 0, problem.BlockSize > 0 ? blocks : 0, device.TensorMaps, [.. functionTables.Select(static table => table.Memory.Address)]);
            work.Begin();
            if (plan.Counters > 0) plan.SetCounters(work.Counters(plan.Counters * sizeof(uint)).Address());
            if (plan.StagedBytes > 0) work.CopyToDevice(scratch, tables, plan.StagedBytes);
            for (int i = 0; i < plan.Launches; i++) work.Launch(plan.LaunchAt(i));
            work.End();
        }
        finally
        {
            foreach (MemoryUse use in uses) use.Memory.DangerousRelease();
        }
    }

    private CudaTensor<T> Tensor<T>(int tensor, in TensorLayout layout)
        where T : unmanaged
        => device.Wrap<T>((nint)_arena.AddressOf(tensor), Sizes(layout.Lengths), Sizes(layout.Strides));

    private static nint[] Sizes(ReadOnlySpan<long> sizes)
    {
        var result = new nint[sizes.Length];
        for (int i = 0; i < result.Length; i++) result[i] = (nint)sizes[i];
        return result;
    }

    private static string Words(in TensorLayout layout) => layout.IsAbsent ? "none" : $"{layout} by [{string.Join(", ", layout.Strides.ToArray())}]";

    /// <summary>Numbers of the tensors in the arena; -1 where there is none.</summary>
    private readonly record struct Placed(int Query, int Key, int Value, int Output, int Mask, int Bias, int LogSumExp, int KeyScale, int ValueScale);

    private interface ICall
    {
        /// <summary>By the public door.</summary>
        void Forward<TQuery, TKeyValue>(CudaTensor<TQuery> query, CudaTensor<TKeyValue> key, CudaTensor<TKeyValue> value, CudaTensor<TQuery> output, scoped in CudaOperands operands, CudaStream? stream)
            where TQuery : unmanaged
            where TKeyValue : unmanaged;

        /// <summary>Builds the problem, and runs it while what it points to is pinned.</summary>
        void Build(in CallTensors tensors, scoped in AttentionOperands operands, Action<AttentionProblem> run);
    }

    private sealed class DenseCall(AttentionOptions options) : ICall
    {
        public void Forward<TQuery, TKeyValue>(
            CudaTensor<TQuery> query, CudaTensor<TKeyValue> key, CudaTensor<TKeyValue> value, CudaTensor<TQuery> output, scoped in CudaOperands operands, CudaStream? stream)
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => CudaAttention.Forward(query, key, value, output, options, operands, stream);

        public void Build(in CallTensors tensors, scoped in AttentionOperands operands, Action<AttentionProblem> run)
        {
            var problem = new AttentionProblem();
            ProblemBuilder.Dense(problem, tensors, options, operands);
            run(problem);
        }
    }

    private sealed class PackedCall(AttentionOptions options, int[] cumulativeQueries, int[] cumulativeKeys) : ICall
    {
        public void Forward<TQuery, TKeyValue>(
            CudaTensor<TQuery> query, CudaTensor<TKeyValue> key, CudaTensor<TKeyValue> value, CudaTensor<TQuery> output, scoped in CudaOperands operands, CudaStream? stream)
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => CudaAttention.ForwardVariableLength(query, key, value, output, cumulativeQueries, cumulativeKeys, options, operands, stream);

        public void Build(in CallTensors tensors, scoped in AttentionOperands operands, Action<AttentionProblem> run)
        {
            var problem = new AttentionProblem();
            ProblemBuilder.Packed(problem, tensors, cumulativeQueries, cumulativeKeys, options, operands);
            run(problem);
        }
    }

    private sealed class PagedCall(AttentionOptions options, int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence) : ICall
    {
        public void Forward<TQuery, TKeyValue>(
            CudaTensor<TQuery> query, CudaTensor<TKeyValue> key, CudaTensor<TKeyValue> value, CudaTensor<TQuery> output, scoped in CudaOperands operands, CudaStream? stream)
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => CudaAttention.ForwardPaged(query, key, value, output, new PagedSequences(cumulativeQueries, contextLengths, blockTables, maxBlocksPerSequence), options, operands, stream);

        public void Build(in CallTensors tensors, scoped in AttentionOperands operands, Action<AttentionProblem> run)
        {
            var problem = new AttentionProblem();
            fixed (int* tables = blockTables)
            {
                ProblemBuilder.Paged(problem, tensors, new PagedSequences(cumulativeQueries, contextLengths, blockTables, maxBlocksPerSequence), tables, options, operands);
                run(problem);
            }
        }
    }
}

/// <summary>What calls were queued, in the file that FUSEDATTENTION_GPU_TRACE names: after an illegal access or a kernel that never ends, its last lines say which it was.</summary>
internal static class GpuTrace
{
    private static readonly Lock Gate = new();
    private static readonly StreamWriter? File = Environment.GetEnvironmentVariable("FUSEDATTENTION_GPU_TRACE") is { Length: > 0 } path ? new(path, append: true) { AutoFlush = true } : null;

    public static void Write(string line)
    {
        if (File is null) return;
        lock (Gate) File.WriteLine($"{Environment.CurrentManagedThreadId} {line}");
    }
}
