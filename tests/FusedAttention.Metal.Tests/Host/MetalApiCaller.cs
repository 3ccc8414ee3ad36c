using System.Numerics.Tensors;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>Calls on tensor spans by way of <see cref="MetalAttention"/>: into tensors of the device with the same strides, and back.</summary>
internal sealed unsafe class MetalApiCaller(MetalDevice device) : ICallTarget
{
    public void Dense<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        MetalTensor<TQuery> result = Copy<TQuery>(output);
        MetalOperands tensors = Copy(operands);
        MetalAttention.Forward(Copy(query), Copy(key), Copy(value), result, options, tensors);
        ReadBack(result, output, tensors, operands);
    }

    public void Packed<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] cumulativeKeys, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        MetalTensor<TQuery> result = Copy<TQuery>(output);
        MetalOperands tensors = Copy(operands);
        MetalAttention.ForwardVariableLength(Copy(query), Copy(key), Copy(value), result, cumulativeQueries, cumulativeKeys, options, tensors);
        ReadBack(result, output, tensors, operands);
    }

    public void Paged<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        MetalTensor<TQuery> result = Copy<TQuery>(output);
        MetalOperands tensors = Copy(operands);
        MetalAttention.ForwardPaged(
            Copy(query), Copy(keyCache), Copy(valueCache), result, new PagedSequences(cumulativeQueries, contextLengths, blockTables, maxBlocksPerSequence), options, tensors);
        ReadBack(result, output, tensors, operands);
    }

    /// <summary>Nobody disposes these tensors: the finaliser's way back is tested along with the rest.</summary>
    private MetalTensor<T> Copy<T>(in ReadOnlyTensorSpan<T> tensor)
        where T : unmanaged
    {
        fixed (T* first = tensor) return Copy(first, TensorLayout.Of(tensor));
    }

    private MetalTensor<T> Copy<T>(T* first, TensorLayout layout)
        where T : unmanaged
    {
        nint[] lengths = [.. layout.Lengths.ToArray().Select(static length => (nint)length)], strides = [.. layout.Strides.ToArray().Select(static stride => (nint)stride)];
        if (layout.Extent == 0) return device.Allocate<T>(lengths);
        MetalTensor<T> memory = device.Allocate<T>((nint)layout.Extent);
        memory.CopyFrom(new ReadOnlySpan<T>(first, (int)layout.Extent));
        return memory.View(0, lengths, strides);
    }

    private MetalOperands Copy(scoped in AttentionOperands operands)
    {
        var tensors = new MetalOperands { KeyLengths = operands.KeyLengths.ToArray(), QueryOffsets = operands.QueryOffsets.ToArray() };
        if (TensorLayout.Of(operands.BooleanMask) is { IsAbsent: false }) tensors.BooleanMask = Copy(operands.BooleanMask);
        if (TensorLayout.Of(operands.LogSumExp) is { IsAbsent: false }) tensors.LogSumExp = Copy<float>(operands.LogSumExp);
        if (operands.Bias.IsAbsent) return tensors;
        fixed (byte* bias = operands.Bias)
        {
            tensors.Bias = operands.Bias.ElementType switch
            {
                AttentionElementType.Float32 => Copy((float*)bias, operands.Bias.Layout),
                AttentionElementType.Float16 => Copy((Half*)bias, operands.Bias.Layout),
                _ => Copy((BFloat16*)bias, operands.Bias.Layout),
            };
        }

        return tensors;
    }

    private static void ReadBack<TQuery>(MetalTensor<TQuery> result, in TensorSpan<TQuery> output, scoped in MetalOperands tensors, scoped in AttentionOperands operands)
        where TQuery : unmanaged
    {
        if (!output.IsEmpty) result.AsReadOnlyTensorSpan().CopyTo(output);
        if (tensors.LogSumExp is not null && !operands.LogSumExp.IsEmpty) tensors.LogSumExp.AsReadOnlyTensorSpan().CopyTo(operands.LogSumExp);
        GC.KeepAlive(result);
        GC.KeepAlive(tensors.LogSumExp);
    }
}
