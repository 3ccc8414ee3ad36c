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
    /// Dimensions summed in one chain. One chain of 512 was measured at 1.0e-5 where four of 128 stay below 4e-6 (logits of a few units).
    /// </summary>
    public const int DimBlock = 128;

    /// <summary>
    /// Rows whose scores are computed, exponentiated and used while still in the first-level cache: 48 x 128 x 4 bytes = 24 KB. A multiple of the register tile's rows
    /// is taken.
    /// </summary>
    public const int StripRows = 48;

    /// <summary>
    /// Rows of one work item. Packing K and V costs about what 4 rows of products cost, so 192 rows make it 2 %; Q and O of 192 rows and D = 128 take 96 KB each.
    /// </summary>
    public const int ItemRows = 192;

    /// <summary>Fewer rows than this are not split off as an item of their own: packing would cost more than 10 %.</summary>
    public const int MinItemRows = 48;
}
