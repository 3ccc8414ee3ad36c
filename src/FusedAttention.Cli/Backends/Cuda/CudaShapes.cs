using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;
using FusedAttention.Cuda.Planning;

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
        [(16384, 64)] = (451, 429),
        [(16384, 128)] = (612, 545),
        [(16384, 256)] = (673, 579),
    };

    private static readonly TimedShape[] Plain = [.. Decodes(), .. Prefills(hasWarpgroups: false)], WithWarpgroups = [.. Decodes(), .. Prefills(hasWarpgroups: true)];

    /// <param name="hasWarpgroups">Whether the prefill kernel has a second form: prefills are then timed with either, one after the other.</param>
    public static IReadOnlyList<TimedShape> Of(bool hasWarpgroups) => hasWarpgroups ? WithWarpgroups : Plain;

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

    private static IEnumerable<TimedShape> Prefills(bool hasWarpgroups)
    {
        foreach (int length in (int[])[1024, 8192, 16384])
        {
            foreach (int dim in (int[])[64, 96, 128, 256])
            {
                foreach ((TensorElementType type, string name) in Types())
                {
                    foreach (bool causal in (bool[])[true, false])
                    {
                        double? target = type == TensorElementType.Float16 && Prefill.TryGetValue((length, dim), out (double Full, double Causal) rates) ? causal ? rates.Causal : rates.Full : null;
                        var row = new TimedShape(
                            $"prefill B{Tokens / length} {Thousands(length)} D{dim} {name} {(causal ? "causal" : "full")}",
                            Shape(Tokens / length, length, length, 2048 / dim, 2048 / dim, dim, type, causal), target);
                        foreach (TimedShape form in Forms(row, hasWarpgroups)) yield return form;
                    }
                }
            }
        }

        CallShape grouped = Shape(2, 8192, 8192, 32, 8, 128, TensorElementType.Float16, causal: true);
        foreach (TimedShape form in Forms(new("prefill B2 8k D128 fp16 32/8 heads causal", grouped), hasWarpgroups)) yield return form;
        foreach (TimedShape form in Forms(new("prefill B2 8k D128 fp16 32/8 heads causal, paged 16", grouped with { BlockSize = 16 }), hasWarpgroups)) yield return form;
        yield return new("prefill B1 1k D128 fp32 causal", Shape(1, 1024, 1024, 16, 16, 128, TensorElementType.Float32, causal: true));
    }

    /// <summary>A row for each form of the prefill kernel.</summary>
    private static IEnumerable<TimedShape> Forms(TimedShape row, bool hasWarpgroups) => hasWarpgroups
        ? ((string[])[PrefillForms.WarpgroupsName, PrefillForms.WarpsName]).Select(form => row with { Name = $"{row.Name}, {form}", Variant = form })
        : [row];

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
