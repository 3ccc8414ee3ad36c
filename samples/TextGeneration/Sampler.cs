using System.Numerics.Tensors;

namespace FusedAttention.Samples.TextGeneration;

/// <summary>Chooses a token from logits: the largest, or at random from the smallest set of likeliest tokens whose probabilities reach top-p (Holtzman et al. 2019, arXiv:1904.09751).</summary>
/// <param name="temperature">Logits are divided by it; 0 takes the largest.</param>
/// <param name="topP">Above 0, at most 1.</param>
/// <param name="seed">The same seed and logits give the same tokens.</param>
internal sealed class Sampler(double temperature, double topP, int seed)
{
#pragma warning disable CA5394 // Nothing here is a secret.
    private readonly Random _random = new(seed);
#pragma warning restore CA5394

    public static Sampler Greedy() => new(0, 1, 0);

    /// <summary>Whether it takes the likeliest token each time.</summary>
    public bool IsGreedy => temperature == 0;

    public int Choose(ReadOnlySpan<float> logits)
    {
        int largest = TensorPrimitives.IndexOfMax(logits);
        if (IsGreedy) return largest;

        double[] weights = new double[logits.Length];
        for (int i = 0; i < weights.Length; i++) weights[i] = Math.Exp((logits[i] - (double)logits[largest]) / temperature);
        int[] order = [.. Enumerable.Range(0, weights.Length).OrderByDescending(i => weights[i])];
        double wanted = topP * weights.Sum(), kept = 0;
        int count = 0;
        while (count < order.Length && (count == 0 || kept < wanted)) kept += weights[order[count++]];

#pragma warning disable CA5394
        double at = _random.NextDouble() * kept;
#pragma warning restore CA5394
        for (int i = 0; i < count; i++)
        {
            at -= weights[order[i]];
            if (at < 0) return order[i];
        }

        return order[count - 1];
    }
}
