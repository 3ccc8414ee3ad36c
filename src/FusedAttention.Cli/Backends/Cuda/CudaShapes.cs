using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Backends.Cuda;

/// <summary>The shapes that <c>bench</c> goes through on an NVIDIA GPU.</summary>
/// <remarks>
/// Prefill has 16k tokens in all and 2,048 / D heads, so that every shape of a dimension does work that is alike. Targets are what cuDNN 9.19 reached on an H100 SXM in fp16, back to back (torch 2.11, driver
/// 580): the same shapes, measured for this project.
/// </remarks>
internal static class CudaShapes
{
    public const string TargetNote = "Targets are what cuDNN 9.19 reached on an H100 SXM at these shapes.";

    private const int Tokens = 16384;

    /// <summary>TFLOP/s, full and causal.</summary>
    private static readonly Dictionary<(int Length, int Dim), (double Full, double Causal)> Prefill = new()
    {
        [(1024, 64)] = (405, 318),
        [(1024, 128)] = (530, 381),
        [(1024, 256)] = (554, 419),
        [(8192, 64)] = (446, 414),
        [(8192, 128)] = (593, 523),
        [(8192, 256)] = (654, 555),
    };

    public static IReadOnlyList<TimedShape> All { get; } = [.. Decodes(), .. Prefills()];

    private static IEnumerable<TimedShape> Decodes()
    {
        (int Batch, int Keys, int Heads, double Target)[] rows = [(1, 32768, 32, 2440), (8, 8192, 32, 2750), (64, 8192, 64, 3080)];
        foreach ((int batch, int keys, int heads, double target) in rows)
        {
            foreach ((TensorElementType type, string name) in Types())
            {
                CallShape shape = Shape(batch, 1, keys, heads, 8, 128, type, causal: false);
                string title = $"decode B{batch} {Thousands(keys)} D128 {name} {heads}/8 heads";
                yield return new(title, shape, type == TensorElementType.Float16 ? target : null);
                if (type == TensorElementType.Float16) yield return new($"{title}, paged 16", shape with { BlockSize = 16 });
            }
        }
    }

    private static IEnumerable<TimedShape> Prefills()
    {
        foreach (int length in (int[])[1024, 8192])
        {
            foreach (int dim in (int[])[64, 128, 256])
            {
                foreach ((TensorElementType type, string name) in Types())
                {
                    foreach (bool causal in (bool[])[true, false])
                    {
                        (double full, double masked) = Prefill[(length, dim)];
                        yield return new(
                            $"prefill B{Tokens / length} {Thousands(length)} D{dim} {name} {(causal ? "causal" : "full")}",
                            Shape(Tokens / length, length, length, 2048 / dim, 2048 / dim, dim, type, causal),
                            type == TensorElementType.Float16 ? causal ? masked : full : null);
                    }
                }
            }
        }

        CallShape grouped = Shape(2, 8192, 8192, 32, 8, 128, TensorElementType.Float16, causal: true);
        yield return new("prefill B2 8k D128 fp16 32/8 heads causal", grouped);
        yield return new("prefill B2 8k D128 fp16 32/8 heads causal, paged 16", grouped with { BlockSize = 16 });
        yield return new("prefill B1 1k D128 fp32 causal", Shape(1, 1024, 1024, 16, 16, 128, TensorElementType.Float32, causal: true));
    }

    private static (TensorElementType Type, string Name)[] Types() => [(TensorElementType.Float16, "fp16"), (TensorElementType.BFloat16, "bf16")];

    private static CallShape Shape(int batch, int queries, int keys, int heads, int keyValueHeads, int dim, TensorElementType type, bool causal) => new()
    {
        Batch = batch,
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
