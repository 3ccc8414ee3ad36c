namespace FusedAttention.Cuda.Planning;

/// <summary>Sizes of the plain kernel.</summary>
/// <param name="Warps">Of a block, a row each at a time.</param>
/// <param name="ItemRows">Rows that a block takes, one after the other.</param>
internal readonly record struct PlainTile(int Warps, int ItemRows)
{
    public int Threads => Warps * 32;
}

/// <summary>Sizes of the prefill kernel.</summary>
/// <param name="Rows">Rows of a block: 16 a warp.</param>
/// <param name="Keys">Keys of a tile.</param>
/// <param name="Stages">Tiles of keys and of values that shared memory holds at once.</param>
internal readonly record struct PrefillTile(int Rows, int Keys, int Stages)
{
    public int Warps => Rows / 16;

    public int Threads => Warps * 32;
}

/// <summary>Sizes of the decode kernel.</summary>
/// <param name="Rows">Rows of a block, shared by all warps.</param>
/// <param name="Keys">Keys of a tile of one warp.</param>
/// <param name="Warps">Of a block, keys of their own each.</param>
internal readonly record struct DecodeTile(int Rows, int Keys, int Warps)
{
    public int Threads => Warps * 32;
}
