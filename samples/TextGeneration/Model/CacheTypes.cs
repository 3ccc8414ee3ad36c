namespace FusedAttention.Samples.TextGeneration.Model;

/// <summary>What keys and values may be in the cache, by the names that options have for it. Those of 8 bits are quantized as they are written, and attention reads them as they are.</summary>
internal static class CacheTypes
{
    public const string Names = "fp32, fp16, int8, fp8 or q8_0";

    /// <summary>A cache of a type that is known by name.</summary>
    /// <exception cref="ArgumentException">There is no such type.</exception>
    public static KeyValueCache CreateCache(this LanguageModel model, string type, int blocks, int blockSize) => type switch
    {
        "fp32" => model.CreateCache<float>(blocks, blockSize),
        "fp16" => model.CreateCache<Half>(blocks, blockSize),
        "int8" => model.CreateCache<sbyte>(blocks, blockSize),
        "fp8" => model.CreateCache<Float8E4M3>(blocks, blockSize),
        "q8_0" => model.CreateCache<Q8Block>(blocks, blockSize),
        _ => throw new ArgumentException($"A cache of '{type}' is not {Names}.", nameof(type)),
    };

    /// <summary>The name of a type.</summary>
    public static string NameOf<T>() => typeof(T) == typeof(float) ? "fp32" : typeof(T) == typeof(Half) ? "fp16" : typeof(T) == typeof(sbyte) ? "int8" : typeof(T) == typeof(Float8E4M3) ? "fp8" : "q8_0";
}
