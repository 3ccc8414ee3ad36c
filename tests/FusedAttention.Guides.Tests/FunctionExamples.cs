using System.Runtime.CompilerServices;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>The examples of docs/score-functions.md: see <see cref="GuideExamples"/>.</summary>
public sealed class FunctionExamples
{
    [Fact]
    public void A_function_of_ones_own_beside_ready_made_ones()
    {
        // README: ScoreFunctionOptions
        float[] slopes = [0.5f, 0.25f];       // one a query head
        int[] documents = [0, 0, 0, 1, 1, 1]; // the document of each token
        var options = new AttentionOptions
        {
            Mask = AttentionMask.Causal,
            ScoreFunction = ScoreFunction.Of(new LinearBias(new ScoreTable(slopes)).Then(new TanhCap(50))),
            MaskFunction = MaskFunction.Of(new DocumentMask(documents)),
        };
        // README: end
        float[] query = Numbers(6 * 2 * 16), key = Numbers(6 * 2 * 16), output = new float[6 * 2 * 16], expected = new float[6 * 2 * 16];
        Attention.Forward(query, key, key, output, new AttentionShape(1, 6, 6, 2, 2, 16), options);

        // The first of a document sees itself alone.
        Assert.Equal(key[(3 * 2 * 16)..(3 * 2 * 16 + 32)], output[(3 * 2 * 16)..(3 * 2 * 16 + 32)]);

        // The other rows see their document as if it were a sequence of its own, with ALiBi of these slopes and hardly a cap.
        var alone = new AttentionOptions { Mask = AttentionMask.Causal, AlibiSlopes = [.. slopes] };
        Attention.Forward(query.AsSpan(3 * 2 * 16), key.AsSpan(3 * 2 * 16), key.AsSpan(3 * 2 * 16), expected, new AttentionShape(1, 3, 3, 2, 2, 16), alone);
        for (int i = 0; i < 3 * 2 * 16; i++) Assert.Equal(expected[i], output[(3 * 2 * 16) + i], 2e-3f);
    }

    private static float[] Numbers(int count) => [.. Enumerable.Range(0, count).Select(static i => MathF.Sin(i * 1.7f))];

    // README: ScoreFunctionStruct
    internal readonly struct LinearBias(ScoreTable slopes) : IScoreFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at) where T : struct, IScoreValue<T>
            => score - (slopes.At(at.Head) * T.Abs(at.Position - at.Key));
    }
    // README: end
}
