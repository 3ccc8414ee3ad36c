namespace FusedAttention.Cpu.Kernels;

/// <summary>
/// Tile sizes of the prefill kernel. None of them shows in the bits of a result except <see cref="Keys"/>, where a row's running maximum is brought up to date.
/// </summary>
internal static class PrefillTiles
{
    /// <summary>
    /// Keys of a tile; tiles start at multiples of it. 128 keys make the product with V long enough that loading and storing O costs 5 % (24 vectors moved for
    /// 128 x 12 multiply-adds), and the packed K and V of D = 128 take 64 KB each: L2.
    /// </summary>
    public const int Keys = 128;

    /// <summary>
    /// Dimensions summed in one chain. One chain of 512 missed a reference case (an error of 1.0e-5, limit 7.7e-6); blocks of 128 pass it.
    /// </summary>
    public const int DimBlock = 128;

    /// <summary>
    /// Rows whose scores are computed, exponentiated and used while still in the first-level cache: 48 x 128 x 4 bytes = 24 KB. A multiple of the register tile's rows
    /// is taken.
    /// </summary>
    public const int StripRows = 48;

    /// <summary>
    /// The most rows of one work item. Packing K and V took 9 % of the time with 192 rows (AVX2, D = 128) and takes 2 % with 768.
    /// </summary>
    public const int ItemRows = 768;

    /// <summary>Floats that Q and O of an item's rows may take: 768 KB, most of a second-level cache; 768 rows at D = 128.</summary>
    public const int ItemFloats = 196608;

    /// <summary>Fewer rows than this are not split off as an item of their own: packing serves too few products.</summary>
    public const int MinItemRows = 48;
}
