using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Emulation.Memory;

/// <summary>How rows of a box lie in shared memory: 16-byte chunks change places within so many bytes, by the number of the row.</summary>
internal enum Swizzle
{
    None,
    Bytes32,
    Bytes64,
    Bytes128,
}

/// <summary>A tensor map of the emulated device: what <c>cuTensorMapEncodeTiled</c> is told, in 128 bytes. Up to five dimensions, innermost first.</summary>
[StructLayout(LayoutKind.Sequential, Size = TensorMapImage.MapBytes)]
internal struct TensorMapImage
{
    public const int MapBytes = 128;

    private const uint Mark = 0x50414D54;

    private readonly uint _mark;

    public TensorMapImage() => _mark = Mark;

    public int Rank { get; init; }

    public int ElementBytes { get; init; }

    public Swizzle Swizzle { get; init; }

    public ulong Address { get; init; }

    public Five Lengths { get; init; }

    /// <summary>In bytes; of the innermost dimension an element's.</summary>
    public Five Strides { get; init; }

    public FiveSmall Box { get; init; }

    public readonly bool IsMap => _mark == Mark;

    /// <summary>Bytes that a box brings, those outside of the tensor included.</summary>
    public readonly int BoxBytes
    {
        get
        {
            int bytes = ElementBytes;
            for (int d = 0; d < Rank; d++) bytes *= Box[d];
            return bytes;
        }
    }

    /// <summary>What the driver would refuse; null where it would not.</summary>
    public readonly string? Refusal()
    {
        if (Rank is < 1 or > 5) return $"{Rank} dimensions";
        if (Address % 16 != 0) return $"address 0x{Address:x}";
        for (int d = 0; d < Rank; d++)
        {
            if (Lengths[d] is < 1 or > 1L << 32) return $"length {Lengths[d]} of dimension {d}";
            if (Box[d] is < 1 or > 256) return $"{Box[d]} elements of a box along dimension {d}";
            if (d > 0 && (Strides[d] % 16 != 0 || Strides[d] is < 0 or >= 1L << 40)) return $"stride {Strides[d]} of dimension {d}";
        }

        int row = Box[0] * ElementBytes, span = SpanOf(Swizzle);
        if (row % 16 != 0 || (span > 0 && row > span)) return $"{row} bytes of a box's row, swizzled by {span}";
        return null;
    }

    /// <summary>Bytes within which chunks change places.</summary>
    public static int SpanOf(Swizzle swizzle) => swizzle switch { Swizzle.Bytes32 => 32, Swizzle.Bytes64 => 64, Swizzle.Bytes128 => 128, _ => 0 };

    /// <summary>Where a byte lies whose address would be this one: a function of the address alone, whose pattern repeats after 256, 512 or 1,024 bytes.</summary>
    public static uint Swizzled(Swizzle swizzle, uint address) => swizzle switch
    {
        Swizzle.Bytes32 => address ^ ((address >> 3) & 0x10),
        Swizzle.Bytes64 => address ^ ((address >> 3) & 0x30),
        Swizzle.Bytes128 => address ^ ((address >> 3) & 0x70),
        _ => address,
    };

    [InlineArray(5)]
    public struct Five
    {
        private long _first;
    }

    [InlineArray(5)]
    public struct FiveSmall
    {
        private short _first;
    }
}
