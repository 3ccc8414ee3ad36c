namespace FusedAttention.Benchmarks.DropIn;

/// <summary>
/// What an engine's attention layer has in its hands: float queries <c>[token, head, dim]</c> of the tokens that are new, and a float cache of its own, <c>[kvHead, capacity, dim]</c>, with room behind the tokens that it holds.
/// </summary>
internal sealed class EngineCall
{
    public const int QueryHeads = 16, KeyValueHeads = 8, Dim = 128;

    public EngineCall(int newTokens, int cachedTokens)
    {
        (NewTokens, CachedTokens, Capacity) = (newTokens, cachedTokens, cachedTokens + 64);
        Query = Numbers(1, newTokens * QueryHeads * Dim);
        Key = Numbers(2, KeyValueHeads * Capacity * Dim);
        Value = Numbers(3, KeyValueHeads * Capacity * Dim);
    }

    public int NewTokens { get; }

    /// <summary>The new ones are the last of them.</summary>
    public int CachedTokens { get; }

    public int Capacity { get; }

    public float[] Query { get; }

    public float[] Key { get; }

    public float[] Value { get; }

    public float Scale { get; } = 1 / MathF.Sqrt(Dim);

    /// <summary>The keys or values of the head that a query head reads.</summary>
    public ReadOnlySpan<float> HeadOf(float[] cache, int queryHead) => cache.AsSpan(queryHead / (QueryHeads / KeyValueHeads) * Capacity * Dim, CachedTokens * Dim);

    /// <summary>Keys that a new token sees: all up to itself.</summary>
    public int Visible(int newToken) => CachedTokens - NewTokens + newToken + 1;

    private static float[] Numbers(int seed, int count)
    {
#pragma warning disable CA5394 // Nothing here is a secret.
        var random = new Random(seed);
        float[] numbers = new float[count];
        foreach (ref float number in numbers.AsSpan()) number = (random.NextSingle() * 2) - 1;
        return numbers;
#pragma warning restore CA5394
    }
}
