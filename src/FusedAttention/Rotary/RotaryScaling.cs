using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>How the angles of a rotary embedding are changed, so that a model attends over longer contexts than it was trained on: one of the records that derive from this.</summary>
public abstract record RotaryScaling
{
    private protected RotaryScaling()
    {
    }

    /// <summary>What cosines and sines are multiplied with, so that logits grow by its square.</summary>
    internal virtual double Magnitude => 1;

    /// <summary>Radians that a pair turns by from one position to the next.</summary>
    internal abstract double FrequencyOf(int pair, RotaryOptions rotary);

    /// <summary>Checks what no property can check alone.</summary>
    internal virtual void Check(string name)
    {
    }

    /// <summary>The same without any scaling.</summary>
    internal static double Unscaled(int pair, RotaryOptions rotary) => Unscaled(pair, rotary, rotary.Base);

    /// <summary><c>base^(-2i / d)</c> (Su et al. 2021, arXiv:2104.09864, section 3.2.2).</summary>
    private protected static double Unscaled(int pair, RotaryOptions rotary, double rotaryBase) => Math.Pow(rotaryBase, -2.0 * pair / rotary.RotaryDim);

    private protected static double Above(double bound, double value, [CallerMemberName] string name = "") => value > bound && double.IsFinite(value)
        ? value
        : throw new ArgumentOutOfRangeException(name, value, $"{name} must be finite and above {bound}.");

    private protected static double AtLeastOne(double value, [CallerMemberName] string name = "") => value >= 1 && double.IsFinite(value)
        ? value
        : throw new ArgumentOutOfRangeException(name, value, $"{name} must be finite and 1 or more.");
}

/// <summary>Position interpolation (Chen et al. 2023, arXiv:2306.15595): every pair turns <c>Factor</c> times slower.</summary>
public sealed record LinearRotaryScaling : RotaryScaling
{
    /// <summary>How many times longer contexts become; 1 or more.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or below 1.</exception>
    public required double Factor { get; init => field = AtLeastOne(value); }

    internal override double FrequencyOf(int pair, RotaryOptions rotary) => Unscaled(pair, rotary) / Factor;
}

/// <summary>
/// "NTK-aware" scaling (bloc97 2023; Peng et al. 2023, arXiv:2309.00071, section 3.1): the base becomes <c>Base * Factor^(d / (d - 2))</c> with d = RotaryDim, so that the fastest pair turns as before and
/// the slowest <c>Factor</c> times slower.
/// </summary>
/// <remarks>The "dynamic" kind is this with a factor that follows the length n of the context: <c>factor * n / trained - (factor - 1)</c>. Keys that are cached were rotated by an older factor: rotate them anew.</remarks>
public sealed record NtkRotaryScaling : RotaryScaling
{
    /// <summary>How many times longer contexts become; 1 or more.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or below 1.</exception>
    public required double Factor { get; init => field = AtLeastOne(value); }

    internal override double FrequencyOf(int pair, RotaryOptions rotary) =>
        pair == 0 ? 1 : Unscaled(pair, rotary, rotary.Base * Math.Pow(Factor, rotary.RotaryDim / (rotary.RotaryDim - 2.0)));
}

/// <summary>
/// YaRN (Peng et al. 2023, arXiv:2309.00071, sections 3.2 and 3.4): pairs that turn often within the trained context stay as they are, those that do not turn once are interpolated, and between the two is a ramp;
/// logits grow by the square of <see cref="AttentionFactor"/>.
/// </summary>
/// <remarks>
/// The ramp is linear in the pair's number, as in the authors' code and in the models that were trained with it; the paper writes one that is linear in the number of turns.
/// The pair that turns r times within L positions has number <c>d ln(L / (2 pi r)) / (2 ln Base)</c>.
/// </remarks>
public sealed record YarnRotaryScaling : RotaryScaling
{
    /// <summary>How many times longer contexts become; 1 or more.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or below 1.</exception>
    public required double Factor { get; init => field = AtLeastOne(value); }

    /// <summary>Tokens of the context that the model was trained with before; 1 or more.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or below 1.</exception>
    public required double OriginalContext { get; init => field = AtLeastOne(value); }

    /// <summary>Pairs that turn more often than this within <see cref="OriginalContext"/> stay as they are; 32 by default.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or not above 0.</exception>
    public double BetaFast { get; init => field = Above(0, value); } = 32;

    /// <summary>Pairs that turn less often than this are interpolated in full; 1 by default.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or not above 0.</exception>
    public double BetaSlow { get; init => field = Above(0, value); } = 1;

    /// <summary>What cosines and sines are multiplied with; <c>0.1 ln(Factor) + 1</c> if left out. Models with "mscale" and "mscale_all_dim" have <c>(0.1 mscale ln(Factor) + 1) / (0.1 mscale_all_dim ln(Factor) + 1)</c>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or not above 0.</exception>
    public double? AttentionFactor { get; init => field = value is double factor ? Above(0, factor) : null; }

    /// <summary>Whether the ramp begins and ends at whole pairs, rounded outwards: true by default, as in the authors' code; false where a configuration has "truncate": false.</summary>
    public bool WholePairs { get; init; } = true;

    internal override double Magnitude => AttentionFactor ?? ((0.1 * Math.Log(Factor)) + 1);

    internal override double FrequencyOf(int pair, RotaryOptions rotary)
    {
        double first = PairThatTurns(BetaFast, rotary), last = PairThatTurns(BetaSlow, rotary);
        if (WholePairs) (first, last) = (Math.Floor(first), Math.Ceiling(last));
        (first, last) = (Math.Max(first, 0), Math.Min(last, rotary.RotaryDim - 1));

        // A ramp without length is a step just above its pair.
        if (first == last) last += 0.001;
        double interpolated = Math.Clamp((pair - first) / (last - first), 0, 1), frequency = Unscaled(pair, rotary);
        return (frequency / Factor * interpolated) + (frequency * (1 - interpolated));
    }

    internal override void Check(string name)
    {
        if (BetaFast < BetaSlow) throw new ArgumentException($"BetaFast {BetaFast} is below BetaSlow {BetaSlow}: pairs that turn often are to stay as they are.", name);
    }

    private double PairThatTurns(double times, RotaryOptions rotary) => rotary.RotaryDim * Math.Log(OriginalContext / (times * 2 * Math.PI)) / (2 * Math.Log(rotary.Base));
}

/// <summary>
/// The scaling of Llama 3.1 and later ("rope_type": "llama3"; Meta's reference code of the model, <c>apply_scaling</c>): waves shorter than <c>OriginalContext / HighFrequencyFactor</c> positions stay as they are, those longer than
/// <c>OriginalContext / LowFrequencyFactor</c> are interpolated, and between the two the share is linear in the number of turns.
/// </summary>
public sealed record Llama3RotaryScaling : RotaryScaling
{
    /// <summary>How many times longer contexts become; 1 or more. Llama 3.1 has 8.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or below 1.</exception>
    public required double Factor { get; init => field = AtLeastOne(value); }

    /// <summary>Tokens of the context that the model was trained with before; 8192 by default.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or below 1.</exception>
    public double OriginalContext { get; init => field = AtLeastOne(value); } = 8192;

    /// <summary>Pairs that turn less often than this within <see cref="OriginalContext"/> are interpolated in full; 1 by default.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or not above 0.</exception>
    public double LowFrequencyFactor { get; init => field = Above(0, value); } = 1;

    /// <summary>Pairs that turn more often than this stay as they are; 4 by default.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or not above 0.</exception>
    public double HighFrequencyFactor { get; init => field = Above(0, value); } = 4;

    internal override double FrequencyOf(int pair, RotaryOptions rotary)
    {
        double frequency = Unscaled(pair, rotary), turns = OriginalContext * frequency / (2 * Math.PI);
        if (turns > HighFrequencyFactor) return frequency;
        if (turns < LowFrequencyFactor) return frequency / Factor;
        double kept = HighFrequencyFactor == LowFrequencyFactor ? 1 : (turns - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor);
        return (frequency / Factor * (1 - kept)) + (frequency * kept);
    }

    internal override void Check(string name)
    {
        if (HighFrequencyFactor < LowFrequencyFactor)
            throw new ArgumentException($"HighFrequencyFactor {HighFrequencyFactor} is below LowFrequencyFactor {LowFrequencyFactor}: pairs that turn often are to stay as they are.", name);
    }
}
