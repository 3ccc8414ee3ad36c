namespace FusedAttention.Cpu.Numerics;

/// <summary>Numbers of the widening of <see cref="Float8E4M3"/>: sign and magnitude are put where a float has them, and a product moves the exponent's bias, exactly and for subnormals too.</summary>
internal static class Float8Bits
{
    /// <summary>2^120: moves an exponent biased by 7 to one biased by 127.</summary>
    public const float Rebase = 1.329227995784916e36f;

    /// <summary>A code as a sign-extended integer, shifted left by 20, has its sign and magnitude here, and copies of its sign between.</summary>
    public const int SignAndMagnitude = unchecked((int)0x87F00000);

    /// <summary>480: what the bits of a NaN would be worth.</summary>
    public const float NaNValue = 480;
}
