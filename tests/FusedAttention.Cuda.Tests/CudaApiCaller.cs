using System.Numerics.Tensors;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Tests;

/// <summary>Calls on tensor spans by way of <see cref="CudaAttention"/>: into tensors of the device with the same strides, and back.</summary>
internal sealed unsafe class CudaApiCaller(CudaDevice device) : ICallTarget
{
    public void Dense<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        Copied<TQuery> result = Copy<TQuery>(output);
        CudaOperands tensors = Copy(operands, out Copied<float> logSumExp);
        CudaAttention.Forward(Copy(query).View, Copy(key).View, Copy(value).View, result.View, options, tensors);
        ReadBack(result, output, logSumExp, operands);
    }

    public void Packed<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] cumulativeKeys, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        Copied<TQuery> result = Copy<TQuery>(output);
        CudaOperands tensors = Copy(operands, out Copied<float> logSumExp);
        CudaAttention.ForwardVariableLength(Copy(query).View, Copy(key).View, Copy(value).View, result.View, cumulativeQueries, cumulativeKeys, options, tensors);
        ReadBack(result, output, logSumExp, operands);
    }

    public void Paged<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        Copied<TQuery> result = Copy<TQuery>(output);
        CudaOperands tensors = Copy(operands, out Copied<float> logSumExp);
        CudaAttention.ForwardPaged(
            Copy(query).View, Copy(keyCache).View, Copy(valueCache).View, result.View, new PagedSequences(cumulativeQueries, contextLengths, blockTables, maxBlocksPerSequence), options, tensors);
        ReadBack(result, output, logSumExp, operands);
    }

    /// <summary>Nobody disposes these tensors: the finaliser's way back is tested along with the rest.</summary>
    private Copied<T> Copy<T>(in ReadOnlyTensorSpan<T> tensor)
        where T : unmanaged
    {
        fixed (T* first = tensor) return Copy(first, TensorLayout.Of(tensor));
    }

    private Copied<T> Copy<T>(T* first, TensorLayout layout)
        where T : unmanaged
    {
        nint[] lengths = [.. layout.Lengths.ToArray().Select(static length => (nint)length)], strides = [.. layout.Strides.ToArray().Select(static stride => (nint)stride)];
        if (layout.Extent == 0)
        {
            CudaTensor<T> empty = device.Allocate<T>(lengths);
            return new(empty, empty);
        }

        CudaTensor<T> memory = device.Allocate<T>((nint)layout.Extent);
        memory.CopyFrom(new ReadOnlySpan<T>(first, (int)layout.Extent));
        return new(memory, memory.View(0, lengths, strides));
    }

    private CudaOperands Copy(scoped in AttentionOperands operands, out Copied<float> logSumExp)
    {
        var tensors = new CudaOperands { KeyLengths = operands.KeyLengths.ToArray(), QueryOffsets = operands.QueryOffsets.ToArray() };
        logSumExp = default;
        if (TensorLayout.Of(operands.BooleanMask) is { IsAbsent: false }) tensors.BooleanMask = Copy(operands.BooleanMask).View;
        if (TensorLayout.Of(operands.LogSumExp) is { IsAbsent: false })
        {
            logSumExp = Copy<float>(operands.LogSumExp);
            tensors.LogSumExp = logSumExp.View;
        }

        if (operands.Bias.IsAbsent) return tensors;
        fixed (byte* bias = operands.Bias)
        {
            tensors.Bias = operands.Bias.ElementType switch
            {
                AttentionElementType.Float32 => Copy((float*)bias, operands.Bias.Layout).View,
                AttentionElementType.Float16 => Copy((Half*)bias, operands.Bias.Layout).View,
                _ => Copy((BFloat16*)bias, operands.Bias.Layout).View,
            };
        }

        return tensors;
    }

    private static void ReadBack<TQuery>(in Copied<TQuery> result, in TensorSpan<TQuery> output, in Copied<float> logSumExp, scoped in AttentionOperands operands)
        where TQuery : unmanaged
    {
        if (!output.IsEmpty) result.CopyTo(output);
        if (logSumExp.Memory is not null && !operands.LogSumExp.IsEmpty) logSumExp.CopyTo(operands.LogSumExp);
    }

    /// <summary>A tensor, and the dense memory that it is a view of.</summary>
    private readonly record struct Copied<T>(CudaTensor<T> Memory, CudaTensor<T> View)
        where T : unmanaged
    {
        /// <summary>All of the memory, between the elements too: a kernel that writes there is found out.</summary>
        public void CopyTo(in TensorSpan<T> destination)
        {
            fixed (T* first = destination) Memory.CopyTo(new Span<T>(first, (int)Memory.FlattenedLength));
        }
    }
}
