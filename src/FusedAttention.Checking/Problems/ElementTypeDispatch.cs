using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Problems;

/// <summary>Work that needs two element types as type arguments: of queries and of keys and values, or of what goes in and of what comes out.</summary>
/// <typeparam name="TResult">What it returns.</typeparam>
public interface ITypedWork<TResult>
{
    /// <summary>Does it.</summary>
    /// <typeparam name="TFirst">The first of the two.</typeparam>
    /// <typeparam name="TSecond">The second.</typeparam>
    TResult Run<TFirst, TSecond>()
        where TFirst : unmanaged
        where TSecond : unmanaged;
}

/// <summary>From element types known at run time to type arguments.</summary>
public static class ElementTypeDispatch
{
    /// <summary>Runs work on a pair that the library computes attention on: queries, keys and values.</summary>
    /// <exception cref="UsageException">It does not on this one.</exception>
    public static TResult Run<TResult>(TensorElementType query, TensorElementType keyValue, ITypedWork<TResult> work) => (query, keyValue) switch
    {
        (TensorElementType.Float32, TensorElementType.Float32 or TensorElementType.Float16 or TensorElementType.BFloat16)
            or (TensorElementType.Float16, TensorElementType.Float16)
            or (TensorElementType.BFloat16, TensorElementType.BFloat16)
            or (TensorElementType.Float32 or TensorElementType.Float16 or TensorElementType.BFloat16, TensorElementType.Int8 or TensorElementType.Float8E4M3 or TensorElementType.Q8Block) => RunAny(query, keyValue, work),
        _ => throw new UsageException($"Attention is not defined here on queries of {query.SafeTensorsName()} with keys and values of {keyValue.SafeTensorsName()}: both are F32, F16 or BF16, F32 queries go with F16 or BF16, or keys and values are of I8, F8_E4M3 or q8_0; --dtype and --kv-dtype convert."),
    };

    /// <summary>Runs work on any pair of the types that the library computes on; only the second may be of 8 bits.</summary>
    /// <exception cref="NotSupportedException">One of the two is none of them.</exception>
    public static TResult RunAny<TResult>(TensorElementType first, TensorElementType second, ITypedWork<TResult> work) => first switch
    {
        TensorElementType.Float32 => RunAny<TResult, float>(second, work),
        TensorElementType.Float16 => RunAny<TResult, Half>(second, work),
        TensorElementType.BFloat16 => RunAny<TResult, BFloat16>(second, work),
        _ => throw NotSupported(first),
    };

    private static TResult RunAny<TResult, TFirst>(TensorElementType second, ITypedWork<TResult> work)
        where TFirst : unmanaged => second switch
        {
            TensorElementType.Float32 => work.Run<TFirst, float>(),
            TensorElementType.Float16 => work.Run<TFirst, Half>(),
            TensorElementType.BFloat16 => work.Run<TFirst, BFloat16>(),
            TensorElementType.Int8 => work.Run<TFirst, sbyte>(),
            TensorElementType.Float8E4M3 => work.Run<TFirst, Float8E4M3>(),
            TensorElementType.Q8Block => work.Run<TFirst, Q8Block>(),
            _ => throw NotSupported(second),
        };

    private static NotSupportedException NotSupported(TensorElementType type) => new($"Nothing is computed on elements of {type.SafeTensorsName()}.");
}
