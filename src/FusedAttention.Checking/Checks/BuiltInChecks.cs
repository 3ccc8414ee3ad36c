using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Checks;

/// <summary>
/// The problems that <c>verify</c> brings along: between them they reach every kernel, pair of element types, feature and layout. Sizes are odd on purpose, so that no tile, block or
/// split is whole. Many rows (45 queries of 2 heads a key/value head) are a prefill, few (3 queries) a decode where the backend has one.
/// </summary>
public static class BuiltInChecks
{
    private const TensorElementType F32 = TensorElementType.Float32, F16 = TensorElementType.Float16, BF16 = TensorElementType.BFloat16;

    private static readonly int[] Many = [45];
    private static readonly int[] Few = [3];
    private static readonly int[] Keys = [77];

    private static readonly (TensorElementType Query, TensorElementType KeyValue)[] Pairs = [(F32, F32), (F16, F16), (BF16, BF16), (F32, F16), (F32, BF16)];

    /// <summary>Dimensions of key and value: powers of two and not, what only some kernels take, latent attention's pair.</summary>
    private static readonly (int Key, int Value)[] Dims =
    [
        (64, 64), (128, 128), (1, 1), (8, 8), (20, 20), (32, 32), (33, 31), (40, 40), (48, 48), (72, 72), (80, 80), (96, 96), (100, 100), (112, 112), (160, 160), (192, 128), (256, 256), (64, 256),
        (320, 320), (512, 512), (576, 512),
    ];

    private static readonly CallRecipe Base = new() { QueryLengths = Many, KeyLengths = Keys };

    public static IEnumerable<Check> All() => [.. MergeCheck.All, .. CacheCheck.All, .. Types(), .. Features(), .. Sequences(), .. LongContexts(), .. ChunkChecks()];

    /// <summary>All pairs with the two usual dimensions, two pairs with each of the others.</summary>
    private static IEnumerable<Check> Types()
    {
        for (int d = 0; d < Dims.Length; d++)
        {
            (int keyDim, int valueDim) = Dims[d];
            (TensorElementType, TensorElementType)[] pairs = d < 2 ? Pairs : [Pairs[d % Pairs.Length], Pairs[(d + 1 + (d / 2 % 2)) % Pairs.Length]];
            foreach ((TensorElementType query, TensorElementType keyValue) in pairs)
            {
                foreach (int[] queries in (int[][])[Many, Few])
                {
                    yield return new ProblemCheck(
                        "types and dimensions", $"D {keyDim}/{valueDim} {Name(query, keyValue)}, {queries[0]} queries",
                        Base with { QueryLengths = queries, KeyDim = keyDim, ValueDim = valueDim, QueryType = query, KeyValueType = keyValue, Options = Causal });
                }
            }
        }
    }

    private static IEnumerable<Check> Features()
    {
        int n = 0;
        foreach ((string name, Func<CallRecipe, CallRecipe> change) in FeatureList())
        {
            // D = 64 has a prefill and a decode kernel of its own; 20 has neither on a GPU and gets the kernel that takes anything.
            foreach ((int dim, int[] queries) in ((int, int[])[])[(64, Many), (64, Few), (20, Many)])
            {
                (TensorElementType query, TensorElementType keyValue) = Pairs[n++ % Pairs.Length];
                yield return new ProblemCheck(
                    "features", $"{name}, D {dim} {Name(query, keyValue)}, {queries[0]} queries",
                    change(Base with { QueryLengths = queries, KeyDim = dim, ValueDim = dim, QueryType = query, KeyValueType = keyValue }));
            }
        }
    }

    private static IEnumerable<(string Name, Func<CallRecipe, CallRecipe> Change)> FeatureList() =>
    [
        ("full", static r => r),
        ("causal from the first key", static r => r with { Options = Causal with { Alignment = AttentionAlignment.TopLeft } }),
        ("causal, fewer keys than queries", static r => r with { KeyLengths = [2], Options = Causal }),
        ("window", static r => r with { Options = new() { Mask = AttentionMask.Window(9, 4) } }),
        ("causal window", static r => r with { Options = new() { Mask = AttentionMask.CausalWindow(13) } }),
        ("query offset", static r => r with { Options = Causal with { QueryOffset = 20 } }),
        ("scale", static r => r with { Options = new() { Scale = 0.75f } }),
        ("ALiBi", static r => r with { Options = Causal with { AlibiSlopes = AlibiSlopes.ForHeads(4) } }),
        ("soft cap", static r => r with { Amplitude = 3, Options = new() { SoftCap = 5 } }),
        ("sinks", static r => r with { Options = Causal with { SinkLogits = [0, 1, -1, 2] } }),
        ("boolean mask", static r => r with { HasMask = true }),
        ("bias fp32, excluded keys", static r => r with { BiasType = F32, HasExtremeBias = true }),
        ("bias fp16", static r => r with { BiasType = F16 }),
        ("bias bf16, excluded keys", static r => r with { BiasType = BF16, HasExtremeBias = true }),
        ("large scores", static r => r with { Amplitude = 30 }),
        ("8 heads on 1", static r => r with { Heads = 8, KeyValueHeads = 1, Options = Causal }),
        ("6 heads on 2", static r => r with { Heads = 6, Options = Causal }),
        ("3 heads on 3", static r => r with { Heads = 3, KeyValueHeads = 3, Options = Causal }),
        ("row-invariant", static r => r with { Options = Causal with { RowInvariant = true } }),
        ("score function", static r => r with { Options = Causal with { ScoreFunction = ScoreFunction.Of(new LinearBias(new([0.1f, 0.2f, 0, 0.4f])).Then(new TanhCap(5))) } }),
        ("mask function", static r => r with { Options = new() { MaskFunction = MaskFunction.Of(new DilatedWindow(9, 3, isTwoSided: true)).And(MaskFunction.Of(new GlobalLocalMask(2, 30))) } }),
        ("functions after everything else", static r => r with
        {
            HasMask = true,
            BiasType = F32,
            HasExtremeBias = true,
            Options = Causal with
            {
                AlibiSlopes = AlibiSlopes.ForHeads(4), SinkLogits = [0, 1, -1, 2],
                ScoreFunction = ScoreFunction.Of(new HeadTemperature(new([1, 0.5f, 2, 1.5f]))), MaskFunction = MaskFunction.Of(new PrefixMask(new([40]))),
            },
        }),
        ("everything", static r => r with
        {
            HasMask = true,
            BiasType = F32,
            Options = new()
            {
                Mask = AttentionMask.CausalWindow(40), AlibiSlopes = AlibiSlopes.ForHeads(4), SoftCap = 20, SinkLogits = [0, 1, -1, 2], Scale = 0.2f,
            },
        }),
    ];

    private static IEnumerable<Check> Sequences()
    {
        int n = 0;
        foreach ((string name, CallRecipe recipe) in SequenceList())
        {
            foreach (int dim in (int[])[64, 20])
            {
                (TensorElementType query, TensorElementType keyValue) = Pairs[n++ % Pairs.Length];
                yield return new ProblemCheck(
                    "batches and sequences", $"{name}, D {dim} {Name(query, keyValue)}", recipe with { KeyDim = dim, ValueDim = dim, QueryType = query, KeyValueType = keyValue });
            }
        }
    }

    private static IEnumerable<(string Name, CallRecipe Recipe)> SequenceList()
    {
        CallRecipe mixed = Base with { QueryLengths = [1, 45, 0, 3, 2], KeyLengths = [70, 60, 5, 0, 33], Options = Causal };
        yield return ("batch of 3", Base with { QueryLengths = [19, 19, 19], KeyLengths = [40, 40, 40], Options = Causal });
        yield return ("batch of 3 with key lengths", Base with { QueryLengths = [19, 19, 19], KeyLengths = [40, 0, 23], Options = Causal });
        yield return ("no key", Base with { KeyLengths = [0] });
        yield return ("packed", mixed with { Layout = SequenceLayout.VariableLength });
        yield return ("packed with bias and mask", mixed with { Layout = SequenceLayout.VariableLength, BiasType = BF16, HasMask = true });
        foreach (int blockSize in (int[])[1, 7, 16, 64]) yield return ($"paged, blocks of {blockSize}", mixed with { Layout = SequenceLayout.Paged, BlockSize = blockSize });
        yield return ("paged, window", mixed with { Layout = SequenceLayout.Paged, Options = new() { Mask = AttentionMask.CausalWindow(11) } });
        yield return ("paged, everything", mixed with
        {
            Layout = SequenceLayout.Paged, BiasType = F16, HasMask = true, Options = Causal with { AlibiSlopes = AlibiSlopes.ForHeads(4), SoftCap = 20, SinkLogits = [0, 1, -1, 2] },
        });
    }

    /// <summary>Long enough for splits of the keys, and for several tiles of a prefill.</summary>
    private static IEnumerable<Check> LongContexts()
    {
        CallRecipe decode = Base with { QueryLengths = [1], KeyLengths = [2_345], Heads = 8, KeyDim = 128, ValueDim = 128, Options = Causal };
        yield return Long("decode, 8 heads on 2", decode);
        yield return Long("decode, 8 heads on 8", decode with { KeyValueHeads = 8 });
        yield return Long("decode, 20,001 keys", decode with { KeyLengths = [20_001], Heads = 2, KeyValueHeads = 1 });
        yield return Long("decode fp32", decode with { QueryType = F32, KeyValueType = F32 });
        yield return Long("decode, D 576/512", decode with { Heads = 16, KeyValueHeads = 1, KeyDim = 576, ValueDim = 512 });
        yield return Long("decode, D 20", decode with { KeyDim = 20, ValueDim = 20 });
        yield return Long("paged decode of 3 sequences", decode with { Layout = SequenceLayout.Paged, QueryLengths = [1, 1, 2], KeyLengths = [2_345, 300, 1_000] });
        yield return Long("prefill", Base with { QueryLengths = [300], KeyLengths = [700], Options = Causal });
        yield return Long("prefill bf16, D 128", Base with { QueryLengths = [257], KeyLengths = [513], KeyDim = 128, ValueDim = 128, QueryType = BF16, KeyValueType = BF16 });
        yield return Long("chunk of a paged prefill", Base with { Layout = SequenceLayout.Paged, QueryLengths = [200, 1], KeyLengths = [900, 450], Options = Causal });

        static Check Long(string name, CallRecipe recipe) => new ProblemCheck("long contexts", name, recipe);
    }

    /// <summary>The promise of <see cref="AttentionOptions.RowInvariant"/>.</summary>
    private static IEnumerable<Check> ChunkChecks()
    {
        foreach (int dim in (int[])[64, 20])
        {
            foreach ((TensorElementType query, TensorElementType keyValue) in Pairs)
            {
                yield return new ChunkCheck(
                    "equal bits", $"prefill in chunks and at once, D {dim} {Name(query, keyValue)}",
                    Base with { KeyDim = dim, ValueDim = dim, QueryType = query, KeyValueType = keyValue, Options = Causal with { RowInvariant = true } });
            }
        }
    }

    /// <summary>Keys and values of 8 bits under each type of query: prefill, decode, the layouts, and what multiplies beside a scale.</summary>
    /// <param name="withBlocks">Whether blocks that hold their own scales are among them.</param>
    public static IEnumerable<Check> EightBits(bool withBlocks)
    {
        foreach (TensorElementType keyValue in (TensorElementType[])[TensorElementType.Int8, TensorElementType.Float8E4M3, .. withBlocks ? (TensorElementType[])[TensorElementType.Q8Block] : []])
        {
            foreach (TensorElementType query in (TensorElementType[])[F32, F16, BF16])
            {
                foreach (int[] queries in (int[][])[Many, Few]) yield return EightBit($"D 64, {queries[0]} queries", Base with { QueryLengths = queries, Options = Causal });
                yield return EightBit("D 128, a long decode of 8 heads on 2", Base with { QueryLengths = [1], KeyLengths = [2_345], Heads = 8, KeyDim = 128, ValueDim = 128, Options = Causal });
                yield return EightBit("D 96/32, 8 heads on 1", Base with { Heads = 8, KeyValueHeads = 1, KeyDim = 96, ValueDim = 32 });

                Check EightBit(string name, CallRecipe recipe)
                    => new ProblemCheck("keys and values of 8 bits", $"{name} {Name(query, keyValue)}", recipe with { QueryType = query, KeyValueType = keyValue });
            }

            foreach ((string name, CallRecipe recipe) in SequenceList())
                yield return new ProblemCheck("keys and values of 8 bits", $"{name} {Name(F16, keyValue)}", recipe with { KeyValueType = keyValue });
            if (keyValue != TensorElementType.Q8Block)
                yield return new ProblemCheck("keys and values of 8 bits", $"D 20, row-invariant {Name(F32, keyValue)}", Base with { KeyDim = 20, ValueDim = 20, QueryType = F32, KeyValueType = keyValue, Options = Causal with { RowInvariant = true } });
        }
    }

    private static AttentionOptions Causal { get; } = new() { Mask = AttentionMask.Causal };

    private static string Name(TensorElementType query, TensorElementType keyValue) => query == keyValue ? query.ShortName() : $"{query.ShortName()} over {keyValue.ShortName()}";
}
