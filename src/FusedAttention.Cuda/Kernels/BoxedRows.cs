using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// How rows of 16-bit elements lie in shared memory where the copy unit puts them and matrix units of warpgroups read them: in boxes of 64 columns, a row of which has 128 bytes; chunk c of row r lies at
/// <c>128 r + 16 (c xor (r mod 8))</c> ("128-byte swizzle"), so that neither rows nor columns meet in a bank. Boxes begin at multiples of 1,024.
/// </summary>
/// <param name="dim">Elements of a row, rounded up to whole boxes with zeros.</param>
/// <param name="rows">A multiple of 8.</param>
internal readonly struct BoxedRows(int dim, int rows)
{
    /// <summary>Columns of a box.</summary>
    public const int BoxColumns = 64;

    /// <summary>Bytes of a box's row.</summary>
    public const int RowBytes = 128;

    /// <summary>The high word of descriptors: 1,024 bytes from eight rows to the next eight, and the swizzle.</summary>
    public const int DescriptorHigh = 0x40000040;

    /// <summary>Elements along which a product sums.</summary>
    private const int Step = 16;

    public int Dim { get; } = dim;

    public int Rows { get; } = rows;

    public int Boxes => (Dim + BoxColumns - 1) / BoxColumns;

    /// <summary>Elements of a row with the zeros behind it.</summary>
    public int Columns => Boxes * BoxColumns;

    public int BoxBytes => Rows * RowBytes;

    public int Bytes => Boxes * BoxBytes;

    /// <summary>Products that sum over a row: those of zeros alone are left out.</summary>
    public int StepsOfColumns => (Dim + Step - 1) / Step;

    /// <summary>Products that sum over the rows.</summary>
    public int StepsOfRows => Rows / Step;

    /// <summary>The low word of a descriptor, less the address, where products sum along a row: the stride between columns is not used.</summary>
    public static int AlongColumns => 1 << 16;

    /// <summary>The same where products sum over the rows: from a box to the next one.</summary>
    public int AlongRows => (BoxBytes >> 4) << 16;

    /// <summary>Where 16 columns begin, in units of 16 bytes.</summary>
    public int UnitsOfColumns(int step) => (step * Step / BoxColumns * (BoxBytes >> 4)) + (step * Step % BoxColumns * sizeof(ushort) >> 4);

    /// <summary>Where 16 rows begin, in units of 16 bytes.</summary>
    public static int UnitsOfRows(int step) => step * Step * RowBytes >> 4;

    /// <summary>The low word of a descriptor.</summary>
    /// <param name="address">Where the rows begin.</param>
    /// <param name="along"><see cref="AlongColumns"/> or <see cref="AlongRows"/>.</param>
    public static I32 DescriptorLow(Shared address, int along) => (address.ToI32() >>> 4) | along;
}
