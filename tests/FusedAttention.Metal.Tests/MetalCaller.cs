using System.Numerics.Tensors;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Tests;

/// <summary>
/// Calls on tensor spans by way of the Metal planner and the emulator: what <c>MetalAttention</c> does, without its tensors. Each tensor is a memory of its own that
/// ends with its last element.
/// </summary>
/// <param name="runtime">The emulator.</param>
/// <param name="forced">The only kernel to use; null for the planner's choice.</param>
internal sealed unsafe class MetalCaller(EmulatedRuntime runtime, AttentionKernel? forced = null) : ICallTarget
{
    /// <summary>Plans of the calls so far.</summary>
    public List<MetalPlan> Plans { get; } = [];

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
        scoped in AttentionOperands operands, IBuild build)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        fixed (TQuery* q = query, o = output)
        fixed (TKeyValue* k = key, v = value)
        fixed (bool* mask = operands.BooleanMask)
        fixed (byte* bias = operands.Bias)
        fixed (float* logSumExp = operands.LogSumExp, keyScale = operands.KeyScale, valueScale = operands.ValueScale)
        {
            CallTensors tensors = CallTensors.Of(
                TensorArgument.Of(q, TensorLayout.Of(query), "query"), TensorArgument.OfKeyValue(k, TensorLayout.Of(key), "key"),
                TensorArgument.OfKeyValue(v, TensorLayout.Of(value), "value"), TensorArgument.Of(o, TensorLayout.Of(output), "output")).With(mask, bias, logSumExp, operands, keyScale, valueScale);
            var problem = new AttentionProblem();
            build.Build(problem, tensors, operands, problem => Submit(problem, tensors));
        }
    }

    private void Submit(AttentionProblem problem, in CallTensors tensors)
    {
        MetalPlan plan = MetalPlan.Of(problem, runtime.Device, forced);
        Plans.Add(plan);
        using var transient = new TransientMemory(runtime);
        var memory = new CallMemory(
            Place(tensors.Query)!.Value, Place(tensors.Key)!.Value, Place(tensors.Value)!.Value, Place(tensors.Output)!.Value, Place(tensors.Mask), Place(tensors.Bias), Place(tensors.LogSumExp),
            Place(tensors.KeyScale), Place(tensors.ValueScale));
        DeviceMemory[] tables = [.. Enumerable.Range(0, FunctionCaptures.TablesOf(problem)).Select(i => TableOf(FunctionCaptures.TableAt(problem, i)))];
        LaunchList launches = plan.Bind(problem, memory, transient, tables);
        for (int i = 0; i < launches.Count; i++) runtime.Wait(runtime.Submit(launches[i]));
    }

    private DeviceMemory TableOf(ScoreTable table) => runtime.Wrap((nint)table.First, (long)table.Rows * table.Columns * sizeof(float));

    private MemoryPlace? Place(in TensorArgument tensor) =>
        tensor.IsAbsent ? null : new MemoryPlace(runtime.Wrap((nint)tensor.Pointer, tensor.Layout.Extent * tensor.ElementBytes), 0);

    private interface IBuild
    {
        /// <summary>Builds the problem, and runs it while what it points to is pinned.</summary>
        void Build(AttentionProblem problem, in CallTensors tensors, scoped in AttentionOperands operands, Action<AttentionProblem> run);
    }

    private sealed class DenseCall(AttentionOptions options) : IBuild
    {
        public void Build(AttentionProblem problem, in CallTensors tensors, scoped in AttentionOperands operands, Action<AttentionProblem> run)
        {
            ProblemBuilder.Dense(problem, tensors, options, operands);
            run(problem);
        }
    }

    private sealed class PackedCall(AttentionOptions options, int[] cumulativeQueries, int[] cumulativeKeys) : IBuild
    {
        public void Build(AttentionProblem problem, in CallTensors tensors, scoped in AttentionOperands operands, Action<AttentionProblem> run)
        {
            ProblemBuilder.Packed(problem, tensors, cumulativeQueries, cumulativeKeys, options, operands);
            run(problem);
        }
    }

    private sealed class PagedCall(AttentionOptions options, int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence) : IBuild
    {
        public void Build(AttentionProblem problem, in CallTensors tensors, scoped in AttentionOperands operands, Action<AttentionProblem> run)
        {
            fixed (int* tables = blockTables)
            {
                var sequences = new PagedSequences(cumulativeQueries, contextLengths, blockTables, maxBlocksPerSequence);
                ProblemBuilder.Paged(problem, tensors, sequences, tables, options, operands);
                run(problem);
            }
        }
    }
}

/// <summary>Memory for one call.</summary>
internal sealed class TransientMemory(IMetalRuntime runtime) : ITransientMemory, IDisposable
{
    private readonly List<DeviceMemory> _taken = [];

    public MemoryPlace Take(long bytes)
    {
        DeviceMemory memory = runtime.Allocate(bytes);
        _taken.Add(memory);
        return new MemoryPlace(memory, 0);
    }

    public void Dispose()
    {
        foreach (DeviceMemory memory in _taken) memory.Dispose();
    }
}
