using FusedAttention.Scores.Tracing;
using Xunit;

namespace FusedAttention.Tests.Scores;

/// <summary>What a function comes to when it is recorded.</summary>
public sealed class ScoreGraphTests
{
    [Fact]
    public void Common_parts_are_shared_and_constants_folded()
    {
        // |p - j| twice, and 2 * 3 - 5 = 1 inside.
        ScoreGraph graph = ScoreFunction.Of(default(Repeating)).Graph;

        Assert.Equal(
            """
            v0 = score
            v1 = position
            v2 = key
            v3 = v1 - v2
            v4 = abs(v3)
            v5 = v0 * v4
            v6 = 1
            v7 = v4 + v6
            v8 = v5 + v7

            """, graph.ToString(), ignoreLineEndingDifferences: true);
    }

    [Fact]
    public void What_a_row_is_asked_for_is_told_from_what_each_key_takes()
    {
        var table = new ScoreTable([1f, 2f]);

        // The product of a table's entry and a logarithm, and not the logarithm alone; each key takes a product.
        ScoreForm scaled = ScoreFunction.Of(new ScalableSoftmax(table, table)).Graph.Form;
        Assert.Equal([ScoreOperation.Multiply], scaled.RowNumbers.ToArray().Select(step => scaled.Steps[step].Operation));
        Assert.Equal(1, scaled.KeyCost);

        // The slope alone: the distance differs from key to key, and the position is no work.
        ScoreForm biased = ScoreFunction.Of(new LinearBias(table)).Graph.Form;
        Assert.Equal([ScoreOperation.Lookup], biased.RowNumbers.ToArray().Select(step => biased.Steps[step].Operation));
        Assert.InRange(biased.KeyCost, 2, 8);

        // A function that is the same for all keys is one number itself.
        ScoreForm constant = ScoreFunction.Of(default(LogarithmOfPosition)).Graph.Form;
        Assert.Equal([constant.Steps.Length - 1], constant.RowNumbers.ToArray());
        Assert.Equal(0, constant.KeyCost);

        // Four of six, the costliest.
        ScoreForm many = ScoreFunction.Of(default(SixNumbersOfARow)).Graph.Form;
        Assert.Equal([ScoreOperation.Exp, ScoreOperation.Log, ScoreOperation.Tanh, ScoreOperation.Multiply], many.RowNumbers.ToArray().Select(step => many.Steps[step].Operation));

        // Squares of squares, two hundred times.
        ScoreForm deep = ScoreFunction.Of(default(DeepSquare)).Graph.Form;
        Assert.Equal([deep.Steps.Length - 2], deep.RowNumbers.ToArray());
    }

    [Fact]
    public void Numbers_of_two_functions_of_one_form_are_slots()
    {
        var first = ScoreFunction.Of(new Slots(1, 2, new ScoreTable([1f, 2f])));
        var second = ScoreFunction.Of(new Slots(3, 3, new ScoreTable([5f, 7f])));

        Assert.Equal(first.Graph.ToString(), second.Graph.ToString());
        Assert.Equal(2, second.Graph.Parameters.Count);
        Assert.Equal([3f, 3f], second.Graph.Parameters.Select(static p => p.Value));
        ScoreTable table = Assert.Single(second.Graph.Tables);
        Assert.Equal([5f, 7f], table.Values.ToArray());
    }

    [Fact]
    public void A_chain_is_one_graph_in_the_order_of_its_parts()
    {
        ScoreFunction chain = ScoreFunction.Of(default(Doubled)).Then(ScoreFunction.Of(default(Increased)));
        ScoreFunction fused = ScoreFunction.Of(default(Doubled).Then(default(Increased)));

        Assert.Equal(chain.Graph.Steps, fused.Graph.Steps);
        Assert.Equal("Doubled then Increased", chain.ToString());
        Assert.Equal("Doubled then Increased", fused.ToString());
        Assert.Equal(7, chain.Evaluate(3, 0, 0, 0, 0, 0));
        Assert.Equal(8, ScoreFunction.Of(default(Increased)).Then(ScoreFunction.Of(default(Doubled))).Evaluate(3, 0, 0, 0, 0, 0));
    }

    [Fact]
    public void Masks_are_the_intersection_of_their_parts()
    {
        MaskFunction both = MaskFunction.Of(new GlobalLocalMask(2, 3)).And(MaskFunction.Of(new HeadRemainder(2)));
        MaskFunction fused = MaskFunction.Of(new GlobalLocalMask(2, 3).And(new HeadRemainder(2)));

        Assert.Equal(both.Graph.Steps, fused.Graph.Steps);
        Assert.True(both.DependsOnHead);
        Assert.False(MaskFunction.Of(new GlobalLocalMask(2, 3)).DependsOnHead);
        for (int key = 0; key < 12; key++)
        {
            bool kept = (key < 2 || Math.Abs(8 - key) <= 3) && key % 2 == 1;
            Assert.Equal(kept, both.Evaluate(0, 1, 8, 8, key));
            Assert.Equal(kept, fused.Evaluate(0, 1, 8, 8, key));
        }
    }

    [Fact]
    public void Truths_that_constants_decide_are_gone()
    {
        Assert.Equal("v0 = score\n", ScoreFunction.Of(default(Decided)).Graph.ToString());
        Assert.Equal("v0 = true\n", MaskFunction.Of(default(Everything)).Graph.ToString());
    }

    /// <summary>A table of one row is a list; the two kinds of look-up, and what a constant's bits tell apart.</summary>
    [Fact]
    public void Lookups_and_constants_are_told_apart()
    {
        string text = ScoreFunction.Of(new Grid(new ScoreTable([1f, 2, 3, 4, 5, 6], 2, 3))).Graph.ToString();

        Assert.Contains("table0[2, 3][v1, v2]", text, StringComparison.Ordinal);
        Assert.Contains("= -0\n", text, StringComparison.Ordinal);
        Assert.Contains("= 0\n", text, StringComparison.Ordinal);
    }

    private readonly struct Repeating : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            T two = 2, three = 3;
            return (score * T.Abs(at.Position - at.Key)) + (T.Abs(at.Position - at.Key) + ((two * three) - 5));
        }
    }

    private readonly struct Slots(ScoreParameter a, ScoreParameter b, ScoreTable table) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => (((score * a) + b) * a) + (table.At(at.Head) * table.At(at.Batch));
    }

    private readonly struct Doubled : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score * 2;
    }

    private readonly struct Increased : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score + 1;
    }

    private readonly struct Decided : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            T one = 1;
            T always = (one < 2) | (at.Key > 4);
            return T.Select(always & !!(one == 1), score, T.Exp(score));
        }
    }

    private readonly struct Everything : IMaskFunction
    {
        public T Keep<T>(in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => (T)1f <= 1;
    }

    private readonly struct Grid(ScoreTable table) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Max(T.Max(score, table.At(at.Batch, at.Key)), T.Max(score * 0f, score * -0f));
    }

    private readonly struct LogarithmOfPosition : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Log(at.Position + 1);
    }

    /// <summary>Two more than have places: the square root of the position, and that less one.</summary>
    private readonly struct SixNumbersOfARow : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            T root = T.Sqrt(at.Position);
            return (score * T.Exp(at.Position)) + (at.Key * T.Log(at.Position)) + (score * at.Key * T.Tanh(at.Position)) + (at.Key * at.Key * (T.Exp(at.Position) * T.Log(at.Position))) + (score * root) + (at.Key * (root - 1));
        }
    }

    private readonly struct DeepSquare : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            T square = at.Position;
            for (int i = 0; i < 200; i++) square *= square;
            return score + square;
        }
    }
}
