namespace FusedAttention.Cpu.Planning;

/// <summary>
/// Tile sizes of the prefill kernel. None of them shows in the bits of a result except <see cref="Keys"/>, where a row's running maximum is brought up to date, and <see cref="LongKeys"/>.
/// </summary>
internal static class PrefillTiles
{
    /// <summary>
    /// Keys of a tile; tiles start at multiples of it. What comes once a row and tile (its maximum, its sum, loading and storing O) made a call with 128 keys 2 to 3 % slower (AVX-512);
    /// packed K and V of D = 128 take 128 KB each: L2.
    /// </summary>
    public const int Keys = 256;

    /// <summary>
    /// Keys of a block whose sums are kept apart, a multiple of <see cref="Keys"/>: 128 tiles, whose running sums of 32 bits are off by less than 1e-6 of the largest value. It shows in the bits of rows with
    /// keys in several blocks.
    /// </summary>
    public const int LongKeys = 32768;

    /// <summary>
    /// Dimensions summed in one chain. One chain of 512 missed a reference case (an error of 1.0e-5, limit 7.7e-6); blocks of 128 pass it.
    /// </summary>
    public const int DimBlock = 128;

    /// <summary>
    /// Rows whose scores are computed, exponentiated and used while still in the first-level cache: 28 x 256 x 4 bytes = 28 KB. A multiple of the register tile's rows
    /// is taken.
    /// </summary>
    public const int StripRows = 28;

    /// <summary>
    /// The most rows of one work item. Packing K and V took 9 % of the time with 192 rows (AVX2, D = 128), 2 % with 768; 1,040 halve a sequence of 2,048.
    /// </summary>
    public const int ItemRows = 1040;

    /// <summary>Floats that Q and O of an item's rows may take: 1 MB, a second-level cache; 1,040 rows at D = 128. Twice as many were no faster.</summary>
    public const int ItemFloats = 266240;

    /// <summary>Fewer rows than this are not split off as an item of their own: packing serves too few products.</summary>
    public const int MinItemRows = 48;
}
