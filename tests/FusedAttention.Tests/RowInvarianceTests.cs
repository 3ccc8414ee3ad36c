using Xunit;

namespace FusedAttention.Tests;

/// <summary>With <see cref="AttentionOptions.RowInvariant"/>, a prefill has the same bits whole, in chunks of any size, and token by token, from any kind of cache.</summary>
public sealed class RowInvarianceTests
{
    public static TheoryData<AttentionElementType, AttentionElementType, string> Cases()
    {
        var cases = new TheoryData<AttentionElementType, AttentionElementType, string>();
        (AttentionElementType Query, AttentionElementType KeyValue)[] types =
        [
            (AttentionElementType.Float32, AttentionElementType.Float32),
            (AttentionElementType.Float16, AttentionElementType.Float16),
            (AttentionElementType.BFloat16, AttentionElementType.BFloat16),
            (AttentionElementType.Float32, AttentionElementType.Float16),
            (AttentionElementType.Float32, AttentionElementType.BFloat16),
        ];
        foreach ((AttentionElementType query, AttentionElementType keyValue) in types)
        {
            foreach (string features in (string[])["causal", "window", "alibi", "cap and sinks"]) cases.Add(query, keyValue, features);
        }

        return cases;
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Cases))]
    public void Token_by_token_equals_the_whole_prefill(AttentionElementType queryType, AttentionElementType keyValueType, string features)
    {
        Problem whole = Create(1, queryType, keyValueType, features, queries: 83, earlierKeys: 0);
        AssertChunks(whole, [.. Enumerable.Range(0, 84)]);
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Cases))]
    public void Random_chunks_equal_the_whole_prefill(AttentionElementType queryType, AttentionElementType keyValueType, string features)
    {
        for (int seed = 0; seed < 4; seed++)
        {
            var generator = new ProblemGenerator(20_000 + seed);
            Problem whole = Create(seed + 2, queryType, keyValueType, features, queries: generator.Next(90, 200), earlierKeys: seed % 2 * generator.Next(1, 150));
            var cuts = new List<int> { 0 };
            while (cuts[^1] < whole.QueryLengths[0]) cuts.Add(Math.Min(whole.QueryLengths[0], cuts[^1] + generator.Next(1, 60)));
            AssertChunks(whole, cuts);
        }
    }

    [Fact]
    public void Chunks_on_every_variant()
    {
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            Problem whole = Create(9, AttentionElementType.Float32, AttentionElementType.Float16, "causal", queries: 70, earlierKeys: 30);
            AssertChunks(whole with { Execution = whole.Execution with { InstructionSet = variant } }, [0, 1, 2, 18, 35, 69, 70]);
        }
    }

    [Fact]
    public void Queries_of_an_encoder_may_be_split_with_offsets()
    {
        Problem whole = Create(10, AttentionElementType.Float32, AttentionElementType.Float32, "alibi", queries: 75, earlierKeys: 40);
        whole = whole with { Options = whole.Options with { Mask = AttentionMask.Window(20, 9) } };
        CallResult expected = Caller.Run(whole);
        int row = whole.Heads * whole.ValueDim;
        foreach ((int from, int to) in ((int, int)[])[(0, 1), (1, 40), (40, 42), (42, 75)])
        {
            Problem part = whole with
            {
                QueryLengths = [to - from],
                Query = [whole.Query[0][(from * whole.Heads * whole.KeyDim)..(to * whole.Heads * whole.KeyDim)]],
                QueryOffsets = [whole.Offset(0) + from],
            };
            CallResult.AssertSameBits(expected.Output[0].AsSpan(from * row, (to - from) * row), Caller.Run(part).Output[0], $"queries {from} to {to}");
        }
    }

    [Fact]
    public void Decoding_beside_a_prefill_in_one_call_equals_decoding_alone()
    {
        Problem one = Create(11, AttentionElementType.Float32, AttentionElementType.Float32, "causal", queries: 1, earlierKeys: 130);
        Problem mixed = new ProblemGenerator(12).Fill(one with { Form = CallForm.Paged, BlockSize = 7, QueryLengths = [1, 77, 2], KeyLengths = [131, 82, 300] });
        CallResult together = Caller.Run(mixed);
        for (int s = 0; s < 3; s++)
        {
            CallResult.AssertSameBits(Caller.Run(mixed.Only(s)).Output[0], together.Output[s], $"sequence {s}");
        }
    }

    private static void AssertChunks(Problem whole, List<int> cuts)
    {
        CallResult expected = Caller.Run(whole);
        expected.AssertClose(whole, CpuLimits.Of(whole));
        int row = whole.Heads * whole.ValueDim;
        int queries = whole.QueryLengths[0];
        for (int c = 1; c < cuts.Count; c++)
        {
            (int from, int to) = (cuts[c - 1], cuts[c]);
            Problem chunk = whole.Chunk(from, to);
            chunk = (c % 3) switch
            {
                1 => chunk,
                2 => chunk with { Form = CallForm.Packed },
                _ => chunk with { Form = CallForm.Paged, BlockSize = 1 + (c % 19) },
            };
            CallResult actual = Caller.Run(chunk);
            CallResult.AssertSameBits(expected.Output[0].AsSpan(from * row, (to - from) * row), actual.Output[0], $"{chunk}");
            for (int h = 0; h < whole.Heads; h++)
            {
                CallResult.AssertSameBits(
                    expected.LogSumExp![0].AsSpan((h * queries) + from, to - from), actual.LogSumExp![0].AsSpan(h * (to - from), to - from), $"log-sum-exp of {chunk}");
            }
        }
    }

    private static Problem Create(int seed, AttentionElementType queryType, AttentionElementType keyValueType, string features, int queries, int earlierKeys)
    {
        var generator = new ProblemGenerator(30_000 + seed);
        (int heads, int keyValueHeads) = generator.Pick([(4, 1), (3, 3), (6, 2), (8, 1)]);
        int dim = generator.Pick([16, 24, 33, 64]);
        var options = new AttentionOptions { Mask = AttentionMask.Causal, RowInvariant = true };
        return generator.Fill(new Problem
        {
            Name = $"{features} {seed}",
            Form = CallForm.Dense,
            QueryType = queryType,
            KeyValueType = keyValueType,
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            KeyDim = dim,
            ValueDim = dim,
            QueryLengths = [queries],
            KeyLengths = [queries + earlierKeys],
            KeyCapacity = queries + earlierKeys,
            Query = [],
            Key = [],
            Value = [],
            Options = features switch
            {
                "window" => options with { Mask = AttentionMask.CausalWindow(37) },
                "alibi" => options with { AlibiSlopes = AlibiSlopes.ForHeads(heads) },
                "cap and sinks" => options with { SoftCap = 20, SinkLogits = [.. generator.Numbers(heads, 2, AttentionElementType.Float32)] },
                _ => options,
            },
        });
    }
}
