namespace FusedAttention;

/// <summary>What a model's rotary embedding is: which elements of a head are rotated, how they are paired, and how fast each pair turns.</summary>
public sealed record RotaryOptions
{
    /// <summary>Elements of a head; from 1 to 4096.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not in this range.</exception>
    public required int HeadDim
    {
        get;
        init => field = value is >= 1 and <= 4096 ? value : throw new ArgumentOutOfRangeException(nameof(HeadDim), value, "HeadDim must be from 1 to 4096.");
    }

    /// <summary>Elements of a head that are rotated, an even number; the others stay as they are. Left out, it is all from <see cref="Offset"/> on.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is odd, or below 2.</exception>
    public int RotaryDim
    {
        get => field == 0 ? HeadDim - Offset : field;
        init => field = value >= 2 && value % 2 == 0 ? value : throw new ArgumentOutOfRangeException(nameof(RotaryDim), value, "RotaryDim must be an even number of 2 or more.");
    }

    /// <summary>The first element that is rotated; 0 by default. Multi-head latent attention, with 512 elements that are not rotated before 64 that are, has 512.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative.</exception>
    public int Offset
    {
        get;
        init => field = value >= 0 ? value : throw new ArgumentOutOfRangeException(nameof(Offset), value, "Offset must be 0 or more.");
    }

    /// <summary>How elements are paired; <see cref="RotaryPairing.HalfSplit"/> by default.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is no member of the enumeration.</exception>
    public RotaryPairing Pairing
    {
        get;
        init => field = Enum.IsDefined(value) ? value : throw new ArgumentOutOfRangeException(nameof(Pairing), value, "Pairing is no member of RotaryPairing.");
    }

    /// <summary>Pair i turns by <c>Base^(-2i / RotaryDim)</c> radians a position; 10,000 by default ("rope_theta" in many configurations).</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not finite, or not above 1.</exception>
    public double Base
    {
        get;
        init => field = value > 1 && double.IsFinite(value) ? value : throw new ArgumentOutOfRangeException(nameof(Base), value, "Base must be finite and above 1.");
    } = 10_000;

    /// <summary>How angles are changed for contexts longer than those of the training; null, the default, for not at all.</summary>
    public RotaryScaling? Scaling { get; init; }

    /// <summary>Checks what no property can check alone.</summary>
    internal void Check(string name)
    {
        if (RotaryDim < 2 || RotaryDim % 2 != 0 || (long)Offset + RotaryDim > HeadDim)
            throw new ArgumentException($"RotaryDim {RotaryDim} from Offset {Offset} on does not fit a head of {HeadDim} elements; it must be even, and both together at most HeadDim.", name);
        Scaling?.Check(name);
    }
}
