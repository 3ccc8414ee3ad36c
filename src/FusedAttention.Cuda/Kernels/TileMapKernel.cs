using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Asks a mask function ahead of a prefill which tiles of keys each item sees, and which it keeps whole: a launch of its own. A block has tiles of an item; a thread has a row of it, or a query where the heads
/// of a query see the same.
/// </summary>
/// <remarks>
/// A block that prefills then passes over what nobody sees, as FlexAttention does by the table of blocks that its caller makes; and a function that asks for no head is asked once for all heads.
/// </remarks>
internal static class TileMapKernel
{
    public const int Threads = 128;

    /// <summary>Blocks of a multiprocessor: 128 registers a thread.</summary>
    public const int BlocksTogether = 4;

    /// <summary>Keys that are asked for in one piece of text: every tile is a multiple of them.</summary>
    private const int Columns = 16;

    /// <param name="traits">What the prefill is specialised for, a mask function among it.</param>
    /// <param name="keys">Of a tile.</param>
    /// <param name="hasLongParameters">Whether the parameter has <see cref="CallBlock.LongParameterBytes"/>.</param>
    public static PtxKernel Write(in KernelTraits traits, int keys, bool hasLongParameters)
    {
        var k = new PtxKernel("map_tiles", PtxTarget.Sm80, Threads, BlocksTogether, CallBlock.BytesOf(hasLongParameters));
        var call = new CallReader(k, traits);
        var map = new TileMapReader(k, traits);
        I32 index = k.BlockX().As("item"), head = map.IsByHead ? k.BlockZ().As("key_value_head") : I32.InRegister(k, 0);
        ItemReader item = call.Item(index);
        SequenceReader sequence = call.Sequence(item.Sequence);
        KernelTraits of = traits;
        Global bytes = map.Row(map.IsByHead ? I32.MultiplyAdd(head, k.BlocksX(), index) : index);
        I32 thread = k.ThreadIndex().As("thread"), rowsOfThread = map.IsByHead ? 1 : call.Group;

        // An item by warps may begin and end in the midst of a query's heads: what it has of a query counts as all of it.
        I32 start = map.IsByHead ? item.FirstRow : call.QueryOf(item.FirstRow) * rowsOfThread;
        I32 first = start + (thread * rowsOfThread), step = rowsOfThread * Threads;
        I32 seen = k.Variable("seen", (I32)0), missed = k.Variable("missed", (I32)0);
        I32 tile = k.Variable("tile", I32.Quotient(item.FirstKey, keys) + k.BlockY());
        k.While("map", () => tile * keys < item.EndKey, () =>
        {
            seen.Set(0);
            missed.Set(0);
            I32 firstKey = tile * keys;
            k.For("row", first, item.EndRow, step, number =>
            {
                RowReader row = RowReader.Of(k, call, sequence, head, number, item);
                k.For("key", firstKey, firstKey + keys, Columns, key =>
                {
                    var function = new RowFunction(FunctionBlock.OfMask(k, of), row, key);
                    I32 kept = 0, reach = ReachWords.Between(row.Start - key, row.End - key) & ((1 << Columns) - 1);
                    for (int i = 0; i < Columns; i++) kept |= I32.Select(function.Keeps(i), 1 << i, 0);
                    seen.Set(seen | (kept & reach));
                    missed.Set(missed | (~kept & reach));
                });
            });
            Predicate isSeen = k.BarrierAny(seen.IsNot(0)), isMissed = k.BarrierAny(missed.IsNot(0));
            k.If(thread.Is(0), () => k.StoreByte(bytes + tile.Widen(), I32.Select(isSeen, I32.Select(isMissed, TileMapReader.Seen, TileMapReader.Kept), TileMapReader.Hidden)));
            tile.Set(tile + map.Blocks);
        });
        k.Exit();
        return k;
    }
}
