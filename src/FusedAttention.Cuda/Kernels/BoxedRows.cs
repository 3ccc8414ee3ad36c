using System.Numerics;
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

    /// <inheritdoc cref="UnitsOfColumns(int)"/>
    public I32 UnitsOfColumns(I32 step)
    {
        const int Steps = BoxColumns / Step, Units = Step * sizeof(ushort) / 16;
        return ((step >>> BitOperations.Log2(Steps)) * (BoxBytes >> 4)) + ((step & (Steps - 1)) * Units);
    }

    /// <summary>Where 16 rows begin, in units of 16 bytes.</summary>
    public static int UnitsOfRows(int step) => step * Step * RowBytes >> 4;

    /// <summary>Where a lane's row of four 8 x 8 matrices begins in a box, of rows that are a factor's columns: as <see cref="SharedRows.LaneOffsetOfColumns"/>.</summary>
    public static I32 LaneOffsetOfColumns(I32 lane) => LaneOffset((lane & 7) + ((lane >>> 4) << 3), (lane >>> 3) & 1, lane);

    /// <summary>The same of rows that are a factor's rows: as <see cref="SharedRows.LaneOffsetOfRows"/>.</summary>
    public static I32 LaneOffsetOfRows(I32 lane) => LaneOffset(lane & 15, lane >>> 4, lane);

    /// <summary>From a lane's place in the first 16 columns: those in each 16 of a box. Chunks 2 i and 2 i + 1 differ from the first two in bits that the swizzle only flips, and nothing else of an address has these bits.</summary>
    /// <param name="first">In a box that begins at a multiple of 1,024.</param>
    public static Shared[] SlicesOf(Shared first)
    {
        int slices = BoxColumns / Step;
        I32 address = first.ToI32();
        return [.. Enumerable.Range(0, slices).Select(slice => slice == 0 ? first : new Shared(address ^ (slice * Step * sizeof(ushort))))];
    }

    /// <summary>A lane's place in 16 columns of 16 rows.</summary>
    /// <param name="slices"><see cref="SlicesOf"/>.</param>
    /// <param name="number">Of the columns.</param>
    /// <param name="row">The first row.</param>
    /// <param name="boxBytes">Of a box.</param>
    public static Shared PlaceOf(Shared[] slices, int number, int row, int boxBytes) => slices[number % slices.Length] + ((number / slices.Length * boxBytes) + (row * RowBytes));

    /// <summary>The low word of a descriptor.</summary>
    /// <param name="address">Where the rows begin.</param>
    /// <param name="along"><see cref="AlongColumns"/> or <see cref="AlongRows"/>.</param>
    public static I32 DescriptorLow(Shared address, int along) => (address.ToI32() >>> 4) | along;

    private static I32 LaneOffset(I32 row, I32 chunk, I32 lane) => (row << 7) + ((chunk ^ (lane & 7)) << 4);
}
