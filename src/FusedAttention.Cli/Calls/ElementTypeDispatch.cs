using FusedAttention.Cli.Formats;

namespace FusedAttention.Cli.Calls;

/// <summary>Work that needs the element types of a call as type arguments.</summary>
internal interface ITypedWork<TResult>
{
    TResult Run<TQuery, TKeyValue>()
        where TQuery : unmanaged
        where TKeyValue : unmanaged;
}

/// <summary>From element types known at run time to type arguments: every pair that the library computes on.</summary>
internal static class ElementTypeDispatch
{
    public static TResult Run<TResult>(TensorElementType query, TensorElementType keyValue, ITypedWork<TResult> work) => (query, keyValue) switch
    {
        (TensorElementType.Float32, TensorElementType.Float32) => work.Run<float, float>(),
        (TensorElementType.Float32, TensorElementType.Float16) => work.Run<float, Half>(),
        (TensorElementType.Float32, TensorElementType.BFloat16) => work.Run<float, BFloat16>(),
        (TensorElementType.Float16, TensorElementType.Float16) => work.Run<Half, Half>(),
        (TensorElementType.BFloat16, TensorElementType.BFloat16) => work.Run<BFloat16, BFloat16>(),
        _ => throw new UsageException($"Attention is not defined here on queries of {query.SafeTensorsName()} with keys and values of {keyValue.SafeTensorsName()}: both are F32, F16 or BF16, or F32 queries go with F16 or BF16; --dtype and --kv-dtype convert."),
    };
}
