using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>
/// Libraries of every family, pair of element types and kind of tile, for compiling where nothing runs: what a compiler refuses in one of them it refuses before a user meets it. Dimensions are those of the tile
/// table's rows, and some of each kind between them.
/// </summary>
internal static class KernelCatalog
{
    private static readonly AttentionElementType[] Codes = [AttentionElementType.Int8, AttentionElementType.Float8E4M3];

    private static readonly (AttentionElementType Query, AttentionElementType KeyValue)[] Pairs =
    [
        (AttentionElementType.Float32, AttentionElementType.Float32),
        (AttentionElementType.Float16, AttentionElementType.Float16),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16),
        (AttentionElementType.Float32, AttentionElementType.Float16),
        (AttentionElementType.Float32, AttentionElementType.BFloat16),
        .. ElementTypes.Wide.ToArray().SelectMany(static query => Codes.Select(codes => (query, codes))),
    ];

    private static readonly (int Key, int Value)[] Dims = [(33, 100), (40, 40), (64, 64), (80, 40), (80, 80), (88, 88), (96, 96), (128, 128), (192, 128), (256, 256)];

    /// <summary>A function of each library, no library twice.</summary>
    public static IEnumerable<KernelFunction> Libraries() => Attention().Concat(Functions()).Concat(Others()).DistinctBy(static function => function.LibraryKey, StringComparer.Ordinal);

    private static IEnumerable<KernelFunction> Attention()
    {
        foreach ((AttentionElementType query, AttentionElementType keyValue) in Pairs)
        {
            foreach ((int keyDim, int valueDim) in Dims)
            {
                var problem = new AttentionProblem { QueryType = query, KeyValueType = keyValue, KeyDim = keyDim, ValueDim = valueDim };
                KernelTraits traits = KernelTraits.Of(problem, isAligned: true);
                if (TileTable.Prefill(keyDim, valueDim, query, keyValue) is not null) yield return KernelLibrary.Main(AttentionKernel.Prefill, traits);
                if (TileTable.Decode(keyDim, valueDim, keyValue) is not null) yield return KernelLibrary.Main(AttentionKernel.Decode, traits);
                yield return KernelLibrary.Main(AttentionKernel.Plain, traits);
            }
        }
    }

    /// <summary>Functions with every operation, in each family: both, and a mask function alone, which leaves scores as they are, over halves and over codes.</summary>
    private static IEnumerable<KernelFunction> Functions()
    {
        var every = new EveryOperation(new ScoreTable(new float[8]), new ScoreTable(new float[16], 2, 8), 0.5f);
        var masks = MaskFunction.Of(every);
        foreach ((ScoreFunction? scores, AttentionElementType keyValue) in ((ScoreFunction?, AttentionElementType)[])
            [(ScoreFunction.Of(every), AttentionElementType.Float16), (null, AttentionElementType.Float16), (null, AttentionElementType.Int8)])
        {
            var problem = new AttentionProblem
            {
                QueryType = AttentionElementType.Float16, KeyValueType = keyValue, KeyDim = 128, ValueDim = 128, ScoreFunction = scores, MaskFunction = masks,
            };
            foreach (AttentionKernel kernel in Enum.GetValues<AttentionKernel>()) yield return KernelLibrary.Main(kernel, KernelTraits.Of(problem, isAligned: true));
        }
    }

    private static IEnumerable<KernelFunction> Others()
    {
        foreach (AttentionElementType partial in ElementTypes.Wide.ToArray())
        {
            foreach (AttentionElementType output in ElementTypes.Wide.ToArray()) yield return MergePlan.Function(partial, output, hasSinks: true, hasLogSumExp: true);
            foreach (KernelFunction function in CachePlan.Functions(new CacheShape(partial, 1, 1, 1))) yield return function;
        }

        foreach (AttentionElementType codes in Codes)
        {
            foreach (KernelFunction function in CachePlan.Functions(new CacheShape(codes, 1, 1, 1))) yield return function;
        }

        yield return new KernelFunction(KernelFamily.LaneMap, "lane_map", [], []);
    }
}
