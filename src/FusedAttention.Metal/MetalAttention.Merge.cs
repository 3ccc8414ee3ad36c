using FusedAttention.Devices;
using FusedAttention.Metal.Calls;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Memory;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

public static unsafe partial class MetalAttention
{
    private static readonly CallPool<LaunchList> MergeLaunches = new(MergePlan.NewLaunches);

    /// <summary>
    /// Combines attention over parts of a context, <c>[parts, batch, queries, heads, valueDim]</c> (a shared prefix and the rest, pieces held by several machines) into attention over the whole,
    /// by the parts' log-sum-exps: <c>o = sum_i exp(lse_i - lse) * o_i</c> with <c>lse = log(sum_i exp(lse_i))</c>.
    /// </summary>
    /// <remarks>
    /// A sink belongs to the context once: compute every part without sinks and give them here, or let exactly one part have them.
    /// A part whose log-sum-exp is negative infinity saw no key and has no weight, whatever its output holds. Parts are combined in order, so the result is the same on every run.
    /// A row that no part has a key for gives zeros and negative infinity, or the sink's logit. A log-sum-exp of NaN or positive infinity makes its row NaN.
    /// </remarks>
    /// <typeparam name="TPartial">Element type of the parts: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <typeparam name="TOutput">Element type of the result: any of these, whatever the parts are.</typeparam>
    /// <param name="partialOutputs"><c>[parts, batch, queries, heads, valueDim]</c>, or without the batch dimension; 1 part or more; any strides with a contiguous last dimension.</param>
    /// <param name="partialLogSumExps"><c>[parts, batch, heads, queries]</c>, or without the batch dimension; natural logarithm; any strides.</param>
    /// <param name="output"><c>[batch, queries, heads, valueDim]</c>, or without the batch dimension; contiguous last dimension; must not overlap an input or itself.</param>
    /// <param name="logSumExp">Receives the combined log-sum-exp, the sink included, <c>[batch, heads, queries]</c>, or without the batch dimension; null: not wanted. Must not overlap anything.</param>
    /// <param name="sinkLogits">One sink logit per head to add in this step, finite or negative infinity; empty: none. Read during the call.</param>
    /// <exception cref="ArgumentException">A shape, stride, type or overlap is not as described, or the tensors belong to different devices; the message has the numbers.</exception>
    /// <exception cref="MetalException">The kernel does not compile, or the device gives no memory. What fails on the GPU later is thrown by what waits for it.</exception>
    /// <exception cref="ObjectDisposedException">A tensor is disposed.</exception>
    public static void Merge<TPartial, TOutput>(
        MetalTensor<TPartial> partialOutputs,
        MetalTensor<float> partialLogSumExps,
        MetalTensor<TOutput> output,
        MetalTensor<float>? logSumExp = null,
        ReadOnlySpan<float> sinkLogits = default)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        ArgumentNullException.ThrowIfNull(partialOutputs);
        ArgumentNullException.ThrowIfNull(partialLogSumExps);
        ArgumentNullException.ThrowIfNull(output);
        AttentionElementType partialType = ElementTypes.Of<TPartial>(nameof(partialOutputs)), outputType = ElementTypes.Of<TOutput>(nameof(output));
        MetalDevice device = partialOutputs.Device;
        var uses = new CallUses(device);
        LaunchList launches = MergeLaunches.Rent();
        try
        {
            var memory = new MergeMemory(
                uses.Add(partialOutputs, nameof(partialOutputs), nameof(partialOutputs)),
                uses.Add(partialLogSumExps, nameof(partialLogSumExps), nameof(partialLogSumExps)),
                uses.Add(output, nameof(output), nameof(output), isWritten: true),
                logSumExp is null ? null : uses.Add(logSumExp, nameof(logSumExp), nameof(logSumExp), isWritten: true));
            TensorLayout partials = AttentionCall.LayoutOf(partialOutputs), partialLses = AttentionCall.LayoutOf(partialLogSumExps), result = AttentionCall.LayoutOf(output);
            TensorLayout lse = logSumExp is null ? default : AttentionCall.LayoutOf(logSumExp);
            MergeShape shape = MergeShape.Of(partials, partialLses, result, lse, sinkLogits);
            fixed (float* sinks = sinkLogits)
            {
                MergeShape.CheckOverlaps(
                    TensorArgument.Of(partialOutputs.First, partials, nameof(partialOutputs)), TensorArgument.Of(partialLogSumExps.First, partialLses, nameof(partialLogSumExps)),
                    TensorArgument.Of(sinks, TensorLayout.Of([sinkLogits.Length], [1]), nameof(sinkLogits)), TensorArgument.Of(output.First, result, nameof(output)),
                    logSumExp is null ? default : TensorArgument.Of(logSumExp.First, lse, nameof(logSumExp)));
            }

            using TransientLease transient = device.RentTransient();
            if (!sinkLogits.IsEmpty) memory = memory with { SinkLogits = Place(sinkLogits, transient.Memory) };
            MergePlan.Bind(shape, partialType, outputType, memory, launches);
            device.Submit(launches, transient.Memory, uses.All);
        }
        finally
        {
            uses.Dispose();
            launches.Clear();
            MergeLaunches.Return(launches);
        }
    }

    private static MemoryPlace Place(ReadOnlySpan<float> values, TransientPool.Rental transient)
    {
        MemoryPlace place = transient.Take((long)values.Length * sizeof(float));
        values.CopyTo(new Span<float>(place.Memory.Pointer + place.Offset, values.Length));
        return place;
    }
}
