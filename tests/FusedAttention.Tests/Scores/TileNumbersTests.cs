using FusedAttention.Scores.Tracing;
using Xunit;

namespace FusedAttention.Tests.Scores;

/// <summary>Which parts of a function a tile has once a column or once a diagonal, and what is left to a score.</summary>
public sealed class TileNumbersTests
{
    private static readonly ScoreTable PerHead = new([1f, 2f]);

    /// <summary>A look-up by distance is one number of it; with several heads in a tile, none.</summary>
    [Fact]
    public void The_bias_of_T5_is_a_number_of_a_distance()
    {
        ScoreForm form = FormOf(new T5RelativeBias(new float[64], heads: 2));

        AssertNumbers([], [ScoreOperation.Lookup], form, hasOneHead: true);
        Assert.Equal(2, form.NumbersOfTile(hasOneHead: true).ScoreCost);
        AssertNumbers([], [], form, hasOneHead: false);
        Assert.Equal(form.KeyCost, form.NumbersOfTile(hasOneHead: false).ScoreCost);
        Assert.True(form.KeyCost > 16);
    }

    /// <summary>The row of the grid that a key is in, which is the same for all heads.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_row_of_a_key_in_a_grid_is_a_number_of_the_key(bool hasOneHead)
    {
        ScoreForm form = FormOf(new GridAlibi(PerHead, 32));

        AssertNumbers([ScoreOperation.Floor], [], form, hasOneHead);
        Assert.InRange(form.NumbersOfTile(hasOneHead).ScoreCost, 5, 6);
    }

    /// <summary>What is done as fast as a number is read, or follows from the score, has none.</summary>
    [Fact]
    public void Short_functions_have_none()
    {
        foreach (ScoreForm form in (ScoreForm[])
            [FormOf(new LinearBias(PerHead)), FormOf(new HeadTemperature(PerHead)), FormOf(new LogNScaling(512)), FormOf(new ScalableSoftmax(PerHead, PerHead)), FormOf(new TanhCap(50))])
        {
            AssertNumbers([], [], form, hasOneHead: true);
            Assert.Equal(form.KeyCost, form.NumbersOfTile(hasOneHead: true).ScoreCost);
        }
    }

    /// <summary>What was rounded once, a product and its sum, stays so: the factors are numbers, and the product is none.</summary>
    [Fact]
    public void A_product_that_a_sum_takes_stays_with_it()
    {
        AssertNumbers([], [ScoreOperation.Exp], FormOf(default(FadingBias)), hasOneHead: true);
        AssertNumbers([], [ScoreOperation.Exp], FormOf(default(LessFadingBias)), hasOneHead: true);
        AssertNumbers([], [ScoreOperation.Multiply], FormOf(default(FadingFactor)), hasOneHead: true);
    }

    /// <summary>A number has one source: key and distance, the query's number or the score make two. Truths are in registers of their own.</summary>
    [Fact]
    public void What_has_two_sources_is_none_and_its_parts_may_be()
    {
        AssertNumbers([ScoreOperation.Exp], [ScoreOperation.Log], FormOf(default(KeyAndDistance)), hasOneHead: true);
        AssertNumbers([], [], FormOf(default(FromQuery)), hasOneHead: true);
        AssertNumbers([], [ScoreOperation.Select], FormOf(default(ByTruth)), hasOneHead: true);
    }

    /// <summary>A table by head and key is a number where all rows have one head, and else the part without the head.</summary>
    [Fact]
    public void A_head_is_the_tile_s_where_there_is_one()
    {
        ScoreForm form = FormOf(new ByHead(new ScoreTable(new float[8], 2, 4)));

        AssertNumbers([ScoreOperation.Lookup], [], form, hasOneHead: true);
        AssertNumbers([ScoreOperation.Floor], [], form, hasOneHead: false);
    }

    /// <summary>Of many the costliest two of each kind.</summary>
    [Fact]
    public void There_are_two_of_a_kind() =>
        AssertNumbers([ScoreOperation.Tanh, ScoreOperation.Lookup], [ScoreOperation.Exp, ScoreOperation.Log], FormOf(new Many(PerHead)), hasOneHead: true);

    private static ScoreForm FormOf<TFunction>(TFunction function)
        where TFunction : struct, IScoreFunction
        => ScoreFunction.Of(function).Graph.Form;

    private static void AssertNumbers(ScoreOperation[] ofKeys, ScoreOperation[] ofDistances, ScoreForm form, bool hasOneHead)
    {
        TileNumbers numbers = form.NumbersOfTile(hasOneHead);
        Assert.Equal(ofKeys, numbers.OfKeys.Select(step => form.Steps[step].Operation));
        Assert.Equal(ofDistances, numbers.OfDistances.Select(step => form.Steps[step].Operation));
    }

    private readonly struct FadingBias : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score + (T.Exp(at.Key - at.Position) * 3f);
    }

    private readonly struct LessFadingBias : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score - (T.Exp(at.Key - at.Position) * T.Abs(at.Position - at.Key));
    }

    private readonly struct FadingFactor : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score * (T.Exp(at.Key - at.Position) * 3f);
    }

    private readonly struct KeyAndDistance : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score + (T.Exp(at.Key / 100) * T.Log(T.Abs(at.Position - at.Key) + 1));
    }

    private readonly struct FromQuery : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score + T.Exp(at.Key - at.Query);
    }

    private readonly struct ByTruth : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Select(at.Position - at.Key < 4f, score, score + T.Select(T.Sqrt(at.Position - at.Key) < 9f, 1f, 2f));
    }

    private readonly struct ByHead(ScoreTable table) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score + table.At(at.Head, T.Floor(at.Key / 9));
    }

    private readonly struct Many(ScoreTable table) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            T distance = at.Position - at.Key;
            T ofKey = (score * T.Sqrt(at.Key)) + T.Tanh(at.Key / 9) + (score * table.At(at.Key % 2));
            return ofKey + T.Exp(-distance) + (score * T.Sqrt(distance)) + T.Log(distance + 1);
        }
    }
}
