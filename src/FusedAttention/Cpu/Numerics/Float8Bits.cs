using System.Numerics;
using System.Runtime.CompilerServices;

namespace FusedAttention.Cpu.Numerics;

/// <summary>Numbers of the widening of <see cref="Float8E4M3"/>: sign and magnitude are put where a float has them, and a product moves the exponent's bias, exactly and for subnormals too.</summary>
internal static unsafe class Float8Bits
{
    /// <summary>2^120: moves an exponent biased by 7 to one biased by 127.</summary>
    public const float Rebase = 1.329227995784916e36f;

    /// <summary>A code as a sign-extended integer, shifted left by 20, has its sign and magnitude here, and copies of its sign between.</summary>
    public const int SignAndMagnitude = unchecked((int)0x87F00000);

    /// <summary>480: what the bits of a NaN would be worth. With all exponent bits set it is a NaN whose low bits are zeros; others would not survive the integer arithmetic of exp2.</summary>
    public const float NaNValue = 480;

    private const byte Magnitude = 0x7F;

    /// <summary>Whether one of <paramref name="dim"/> codes in one of <paramref name="count"/> rows is NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AnyNaN(nint* rows, nint offset, int count, int dim)
    {
        var magnitude = new Vector<byte>(Magnitude);
        Vector<byte> any = Vector<byte>.Zero;
        int whole = dim / Vector<byte>.Count * Vector<byte>.Count;
        for (int j = 0; j < count; j++)
        {
            byte* row = (byte*)(rows[j] + offset);
            for (int d = 0; d < whole; d += Vector<byte>.Count) any |= Vector.Equals(Vector.Load(row + d) & magnitude, magnitude);
            for (int d = whole; d < dim; d++)
            {
                if ((row[d] & Magnitude) == Magnitude) return true;
            }
        }

        return any != Vector<byte>.Zero;
    }
}
