using Xunit;

namespace FusedAttention.Tests.Scores;

/// <summary>What cannot be a function, a table or a call with them is refused with a sentence that says what and where.</summary>
public sealed class FunctionErrorTests
{
    [Fact]
    public void A_default_table_is_refused()
    {
        AssertRefused(() => ScoreFunction.Of(new HeadTemperature(default)), "HeadTemperature cannot be taken: it looks up a table that is null");
        AssertRefused(() => MaskFunction.Of(default(DocumentMask)), "DocumentMask cannot be taken: it looks up a table that is null");
    }

    [Fact]
    public void Numbers_and_truths_do_not_mix()
    {
        AssertRefused(() => ScoreFunction.Of(new Wrong(0)), "Add takes numbers and is given the truth key <= position; T.Select(truth, a, b)");
        AssertRefused(() => ScoreFunction.Of(new Wrong(1)), "Select takes truths, such as comparisons give, and is given the number score");
        AssertRefused(() => ScoreFunction.Of(new Wrong(2)), "Score returns the truth score < 0 and not a number");
        AssertRefused(() => ScoreFunction.Of(new Wrong(3)), "And takes truths, such as comparisons give, and is given the number key");
        AssertRefused(() => MaskFunction.Of(default(NumberMask)), "NumberMask cannot be taken: Keep returns the number key + 1 and not a truth");
    }

    [Fact]
    public void Values_cannot_be_looked_into()
    {
        AssertRefused(() => ScoreFunction.Of(new Wrong(4)), "it calls Equals on a value; == compares, and T.Select chooses");
        AssertRefused(() => ScoreFunction.Of(new Wrong(5)), "it asks a value for its hash code");
        AssertRefused(() => ScoreFunction.Of(new Wrong(6)), "run over recorded values it throws InvalidCastException");
        AssertRefused(() => ScoreFunction.Of(new Wrong(7)), "it returns default(T), which is no value");
        AssertRefused(() => ScoreFunction.Of(new Wrong(8)), "Add is given default(T), which is no value; write 0f for zero");
    }

    [Fact]
    public void Runaway_and_changing_functions_are_refused()
    {
        AssertRefused(() => ScoreFunction.Of(new Wrong(9)), "it nests more than 1000 operations; a loop in a function is written out");
        AssertRefused(() => ScoreFunction.Of(new Wrong(10)), "two runs gave two formulas");
        AssertRefused(() => ScoreFunction.Of(new Wrong(11)), "it has more than 4096 operations");
    }

    [Fact]
    public void A_list_by_two_indices_is_a_row_and_rows_by_one_are_refused()
    {
        Assert.Equal(2f, ScoreFunction.Of(new Looked(new ScoreTable([1f, 2f]), 2)).Evaluate(0, 0, 0, 0, 0, 1));
        AssertRefused(() => ScoreFunction.Of(new Looked(new ScoreTable([1f, 2f], 2, 1), 1)), "it looks up a table of shape [2, 1] by one index; At(row, column) takes two");
    }

    [Fact]
    public void Tables_have_as_many_numbers_as_their_shape()
    {
        AssertRefused(() => new ScoreTable(ReadOnlySpan<float>.Empty), "A table of 1 x 0 has no entry");
        AssertRefused(() => new ScoreTable([1f, 2f, 3f], 2, 2), "values has 3 numbers; a table of 2 x 2 has 4");
        AssertRefused(() => new ScoreTable([1, (1 << 24) + 1]), "values[1] is 16777217; a table holds whole numbers up to 2^24");
        AssertRefused(() => new ScoreTable([0, int.MinValue]), "values[1] is -2147483648");
        AssertRefused(() => new ScoreTable(new float[(1 << 24) + 1]), "a table has up to 2^24");
    }

    [Theory]
    [InlineData(3, 8, 8, 2, "HeadTemperature looks up a table of shape [3] by head, but its columns are 3 and the call has 4 query heads.")]
    [InlineData(4, 7, 8, 2, "DocumentMask looks up a table of shape [2, 7] by query, but its columns are 7 and the call has 8 queries of the longest sequence.")]
    [InlineData(4, 8, 7, 2, "DocumentMask looks up a table of shape [2, 7] by key, but its columns are 7 and the call has 8 keys of the longest sequence.")]
    [InlineData(4, 8, 8, 1, "DocumentMask looks up a table of shape [8] by batch, but its rows are 1 and the call has 2 sequences.")]
    public void A_table_that_is_too_small_for_a_call_is_refused(int heads, int queries, int keys, int rows, string message)
    {
        var options = new AttentionOptions
        {
            ScoreFunction = ScoreFunction.Of(new HeadTemperature(new ScoreTable(new float[heads]))),
            MaskFunction = MaskFunction.Of(new DocumentMask(new ScoreTable(new int[rows * queries], rows, queries), new ScoreTable(new int[rows * keys], rows, keys))),
        };
        float[] tokens = new float[2 * 8 * 4 * 16], output = [.. Enumerable.Repeat(7f, tokens.Length)];

        var e = Assert.Throws<ArgumentException>("options", () => Attention.Forward<float, float>(tokens, tokens, tokens, output, new AttentionShape(2, 8, 8, 4, 4, 16), options));

        Assert.StartsWith(message, e.Message, StringComparison.Ordinal);
        Assert.All(output, static x => Assert.Equal(7f, x));
    }

    [Fact]
    public void Positions_that_floats_do_not_hold_are_refused()
    {
        var options = new AttentionOptions { ScoreFunction = ScoreFunction.Of(new TanhCap(3)), QueryOffset = (1 << 24) - 7 };
        float[] tokens = new float[8 * 16], output = new float[tokens.Length];

        var e = Assert.Throws<ArgumentException>("options", () => Attention.Forward<float, float>(tokens, tokens, tokens, output, new AttentionShape(1, 8, 8, 1, 1, 16), options));

        Assert.StartsWith("ScoreFunction takes positions and keys up to 2^24; sequence 0 has 8 keys, and queries from position 16777209 on.", e.Message, StringComparison.Ordinal);
        Attention.Forward<float, float>(tokens, tokens, tokens, output, new AttentionShape(1, 8, 8, 1, 1, 16), options with { QueryOffset = (1 << 24) - 8 });
    }

    [Fact]
    public void Numbers_of_ready_made_functions_are_checked()
    {
        Assert.Throws<ArgumentOutOfRangeException>("cap", static () => new TanhCap(0));
        Assert.Throws<ArgumentOutOfRangeException>("window", static () => new DilatedWindow(0, 1));
        Assert.Throws<ArgumentOutOfRangeException>("step", static () => new DilatedWindow(1, 0));
        Assert.Throws<ArgumentOutOfRangeException>("trainedLength", static () => new LogNScaling(1));
        Assert.Throws<ArgumentOutOfRangeException>("heads", static () => new T5RelativeBias(new float[8], 0));
        Assert.Throws<ArgumentOutOfRangeException>("maxDistance", static () => new T5RelativeBias(new float[8], 2, maxDistance: 0));
        AssertRefused(static () => new T5RelativeBias(new float[9], 2), "table has 9 values; expected a multiple of 2 heads");
        AssertRefused(static () => new T5RelativeBias(new float[6], 2, isBidirectional: true), "table has 3 buckets; expected 4 or more");
    }

    private static void AssertRefused(Func<object> make, string words)
    {
        var e = Assert.Throws<ArgumentException>(make);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
    }

    private readonly struct Wrong(int way) : IScoreFunction
    {
        private static int _runs;

        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            switch (way)
            {
                case 0: return score + (at.Key <= at.Position);
                case 1: return T.Select(score, at.Key, at.Head);
                case 2: return score < 0;
                case 3: return T.Select((score < 0) & at.Key, score, 0);
                case 4: return score.Equals(at.Key) ? score : 0;
                case 5: return score * score.GetHashCode();
                case 6: return score * (float)(object)score;
                case 7: return default;
                case 8: return score + default(T);
                case 9:
                    for (int i = 0; i < 2000; i++) score += 1;
                    return score;
                case 10: return score + Interlocked.Increment(ref _runs);
                default:
                    T sum = 0;
                    for (int i = 0; i < 70; i++)
                    {
                        T part = score;
                        for (int j = 0; j < 70; j++) part += (100 * i) + j;
                        sum += part;
                    }

                    return sum;
            }
        }
    }

    private readonly struct NumberMask : IMaskFunction
    {
        public T Keep<T>(in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => at.Key + 1;
    }

    private readonly struct Looked(ScoreTable table, int indices) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => indices == 1 ? table.At(at.Key) : table.At(at.Batch, at.Key);
    }
}
