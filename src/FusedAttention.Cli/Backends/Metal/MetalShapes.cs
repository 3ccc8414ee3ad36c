using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Backends.Metal;

/// <summary>The shapes that <c>bench</c> goes through on an Apple GPU, quick ones first.</summary>
/// <remarks>
/// Targets are what the kernels were designed for on an M4 Pro with 20 GPU cores: 6 TFLOP/s of a causal prefill with D = 128 from 4k tokens on, three quarters of its 273 GB/s of memory
/// in decoding with up to 4 query heads a key/value head. Nobody has measured either.
/// </remarks>
internal static class MetalShapes
{
    public const string TargetNote = "Targets are what the kernels were designed for on an M4 Pro with 20 GPU cores. They are not measurements.";

    private const double PrefillTarget = 6;
    private const double DecodeTarget = 205;

    public static IReadOnlyList<TimedShape> All { get; } = [.. Rows()];

    private static IEnumerable<TimedShape> Rows()
    {
        (TensorElementType, string)[] types = [(TensorElementType.Float16, "fp16"), (TensorElementType.BFloat16, "bf16"), (TensorElementType.Float32, "fp32")];
        foreach (int length in (int[])[1024, 4096, 8192])
        {
            foreach (int dim in (int[])[64, 128, 256])
            {
                foreach ((TensorElementType type, string name) in types)
                {
                    foreach (bool causal in (bool[])[true, false])
                    {
                        yield return new(
                            $"prefill {Thousands(length)} D{dim} {name} {(causal ? "causal" : "full")}", Shape(length, length, 32, 8, dim, type, causal),
                            causal && dim == 128 && length >= 4096 ? PrefillTarget : null);
                    }
                }
            }
        }

        foreach (int keys in (int[])[4096, 32768])
        {
            foreach (int keyValueHeads in (int[])[32, 8])
                yield return new($"decode {Thousands(keys)} D128 fp16 32/{keyValueHeads} heads", Shape(1, keys, 32, keyValueHeads, 128, TensorElementType.Float16, causal: false), DecodeTarget);
            yield return new($"decode {Thousands(keys)} D128 fp16 32/8 heads, paged 16", Shape(1, keys, 32, 8, 128, TensorElementType.Float16, causal: false) with { BlockSize = 16 });
        }

        yield return new("decode 4k D128 fp16 32/8 heads, batch 16, paged 16", Shape(1, 4096, 32, 8, 128, TensorElementType.Float16, causal: false) with { Batch = 16, BlockSize = 16 });
        yield return new("prefill 4k D128 fp16 causal, paged 16", Shape(4096, 4096, 32, 8, 128, TensorElementType.Float16, causal: true) with { BlockSize = 16 });
    }

    private static CallShape Shape(int queries, int keys, int heads, int keyValueHeads, int dim, TensorElementType type, bool causal) => new()
    {
        Batch = 1,
        QueryHeads = heads,
        KeyValueHeads = keyValueHeads,
        QueryLength = queries,
        KeyLength = keys,
        KeyDim = dim,
        ValueDim = dim,
        QueryType = type,
        KeyValueType = type,
        Mask = causal ? AttentionMask.Causal : AttentionMask.Full,
        BlockSize = null,
    };

    private static string Thousands(int tokens) => $"{tokens / 1024}k";
}
