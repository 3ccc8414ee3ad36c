namespace FusedAttention.Cpu.Planning;

/// <summary>How many rows the kernel of a call takes together.</summary>
/// <param name="Tile">Rows of a register tile, or of whatever takes its place; items have whole ones.</param>
/// <param name="Least">Fewer rows than this are not split off as an item of their own: packing serves too few products.</param>
/// <param name="Most">The most rows of an item.</param>
internal readonly record struct PrefillRows(int Tile, int Least, int Most)
{
    /// <summary>Of kernels of floats.</summary>
    public static PrefillRows OfFloats(int tile, int keyDim, int valueDim) =>
        new(tile, PrefillTiles.MinItemRows, Math.Clamp(PrefillTiles.ItemFloats / (keyDim + valueDim), PrefillTiles.MinItemRows, PrefillTiles.ItemRows));
}
