using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>
/// The relative position bias of T5 (Raffel et al. 2019, arXiv:1910.10683): <c>s + table[bucket(j - p), head]</c>, where distances up to a quarter or half of the buckets have one each and longer ones share them on a logarithmic scale.
/// </summary>
public readonly struct T5RelativeBias : IScoreFunction
{
    // What a bucket comes to for each head and distance: look-ups side by side, where buckets of the law's formula would be gathered twice a key.
    private readonly ScoreTable _biases;
    private readonly float _farthest;

    /// <summary>A bias of learned values.</summary>
    /// <param name="table"><c>[buckets, heads]</c>, as models store it.</param>
    /// <param name="heads">Query heads.</param>
    /// <param name="isBidirectional">Whether keys after the query have buckets of their own (encoders), or none but the first (decoders).</param>
    /// <param name="maxDistance">The distance from which on all share the last bucket: 128 in the models of the paper.</param>
    /// <exception cref="ArgumentException">The table is not of whole buckets, or there are too few for the distance.</exception>
    public T5RelativeBias(ReadOnlySpan<float> table, int heads, bool isBidirectional = false, int maxDistance = 128)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(heads, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxDistance, 1);
        if (table.Length == 0 || table.Length % heads != 0) throw new ArgumentException($"table has {table.Length} values; expected a multiple of {heads} heads.", nameof(table));
        int buckets = table.Length / heads;
        if (buckets < (isBidirectional ? 4 : 2)) throw new ArgumentException($"table has {buckets} buckets; expected {(isBidirectional ? 4 : 2)} or more.", nameof(table));
        int width = (2 * maxDistance) + 1;
        float[] biases = new float[heads * width];
        for (int h = 0; h < heads; h++)
        {
            for (int i = 0; i < width; i++) biases[(h * width) + i] = table[(BucketOf(i - maxDistance, buckets, isBidirectional, maxDistance) * heads) + h];
        }

        (_biases, _farthest) = (new(biases, heads, width), maxDistance);
    }

    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score + _biases.At(at.Head, at.Key - at.Position + _farthest);

    /// <summary>The bucket of a key that stands <paramref name="offset"/> after the query, by the paper's rule.</summary>
    private static int BucketOf(int offset, int buckets, bool isBidirectional, int maxDistance)
    {
        if (isBidirectional) buckets /= 2;
        int first = isBidirectional && offset > 0 ? buckets : 0;
        int distance = isBidirectional ? Math.Abs(offset) : Math.Max(-offset, 0);
        int exact = buckets / 2;
        if (distance < exact) return first + distance;

        // The whole part of a real number, which rounding may leave just below an integer: powers of whole numbers tell.
        double share = Math.Log((double)distance / exact) / Math.Log((double)maxDistance / exact) * (buckets - exact);
        int whole = Math.Abs(share - Math.Round(share)) < 1e-9 ? (int)Math.Round(share) : (int)share;
        return first + Math.Min(buckets - 1, exact + whole);
    }
}
