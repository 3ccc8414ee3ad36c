using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>How large the <see cref="TileMap"/> of a call is; all zero where it has none.</summary>
/// <param name="Items">Of the prefill.</param>
/// <param name="Heads">Rows of an item: key/value heads where the mask function asks for the head, else 1.</param>
/// <param name="Tiles">Of the longest sequence, a byte each.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct TileMapLayout(int Items, int Heads, int Tiles)
{
    /// <summary>What a grid has along its y.</summary>
    private const int MostBlocks = 65535;

    /// <summary>Of the map, and of scratch memory.</summary>
    public long Bytes => (((long)Items * Heads * Tiles) + 15) & -16;

    /// <summary>Blocks that share a row: one a tile, unless those are too many for a grid.</summary>
    public int Blocks => Math.Min(Tiles, MostBlocks);

    /// <param name="problem">The call.</param>
    /// <param name="traits">What its kernels are specialised for.</param>
    /// <param name="tileKeys">Keys of a tile of the prefill.</param>
    /// <param name="items">Of the prefill; 1 or more.</param>
    public static TileMapLayout Of(AttentionProblem problem, in KernelTraits traits, int tileKeys, int items)
    {
        int keys = 0;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences) keys = Math.Max(keys, sequence.KeyLength);
        return new(items, TileMapReader.HasHeads(traits) ? problem.KeyValueHeads : 1, Math.Max((int)(((long)keys + tileKeys - 1) / tileKeys), 1));
    }

    /// <summary>The map in memory.</summary>
    public TileMap At(ulong address) => new() { Address = address, Tiles = Tiles, Blocks = Blocks };
}
