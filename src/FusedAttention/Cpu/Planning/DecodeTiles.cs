using FusedAttention.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Planning;

/// <summary>Tile and split sizes of the decode kernel.</summary>
internal static class DecodeTiles
{
    /// <summary>
    /// Keys whose scores are computed for all heads before their values are read; tiles start at multiples of it. The longer
    /// the tile, the less the fixed cost of a row's softmax weighs: its two reductions over lanes, its bookkeeping and the look for a new maximum come once a tile.
    /// </summary>
    public const int Keys = 128;

    /// <summary>
    /// Floats between two rows of scores. Sums of keys beyond the tile's last may be stored up to <see cref="MaxStep"/> floats further, and rows a power of two apart would
    /// compete for cache sets.
    /// </summary>
    public const int ScoreStride = Keys + 16;

    /// <summary>Rows of a head that share the loads of a key or value: 4 rows x 2 keys are 8 sums, which with 2 keys and a query leave room in 16 registers.</summary>
    public const int Rows = 4;

    /// <summary>Heads of one row each from which on tokens are read one by one: the sums over lanes are taken for eight heads at once.</summary>
    public const int MinHeadsByToken = 4;

    /// <summary>The most tokens that a step takes: for a single row 8 independent sums, as many as 2 ports x 4 cycles of latency want.</summary>
    public const int MaxStep = 8;

    /// <summary>Rows of a key/value head (queries x group) up to which a sequence is decoded rather than prefilled, beside all single queries.</summary>
    public const int MaxRows = 16;

    /// <summary>
    /// How many tokens ahead of its use a token is asked for. Measured at 32k keys, one thread: 8 heads of 128 in 16 bits, group 4: without asking 7 GB/s, 8 ahead 16, 16 ahead 15.9, 32
    /// and more 13.6. 32 heads in 16 bits: 17.0 without, 20.5 at 2, 22.7 at 4, 22.9 at 8. 32 heads in 32 bits, 16 KB a token: 17.8 without, 27.1 at 1, 23.0 at 2, 23.2 at 8,
    /// head by head; in the order of memory, 2 are as good as 1 for keys, and what values are taken by.
    /// </summary>
    /// <remarks>
    /// The second-level cache is asked: it waits for more lines at once than the first. A Zen 4, one thread, 32k keys, 8 heads and group 4 in 16 bits: 16.4 GB/s against 11.1, where reading alone is 17.9; 32 heads in
    /// 32 bits 22.5 against 12.3. A Sapphire Rapids: the same with groups, 1.18 times as fast without (32 and 16 bits). Of short tokens twice as many: 16 KB ahead.
    /// </remarks>
    /// <param name="byToken">Whether tokens are read one by one.</param>
    /// <param name="tokenBytes">Bytes of a token's keys, all heads of the call together.</param>
    public static int TokensAhead(bool byToken, long tokenBytes) => byToken && tokenBytes >= VeryLongToken ? VeryLongTokens : tokenBytes <= ShortToken ? 16 : 8;

    // Of very long tokens of one row a head: how many values are added at a time, and how far ahead they are asked for.
    private const int VeryLongTokens = 2;
    private const int ShortToken = 1024;
    private const int LongToken = 4096;
    private const int VeryLongToken = 16384;
    private const int ShortContext = 1 << 20;
    private const int MinChunkKeys = 512;
    private const int MaxChunks = 64;

    /// <summary>
    /// The chunks of a sequence by the keys that its queries may see: of 512 keys up to 32k of them, then of as many as keep it to 64 chunks. A chunk of 512 keys is 2 MB of K and V at 8 heads of 128 in 16 bits:
    /// some 100 us at 20 GB/s.
    /// </summary>
    public static KeySplits Chunks(KeyRange visible) => new(visible, MinChunkKeys, MaxChunks);

    /// <summary>
    /// Keys that all heads pass before the next keys come, where tokens are not read one by one: a few are read side by side, each in the order of memory through all its heads. With
    /// heads outside and 64 keys inside, 12 GB/s were measured where eight keys and all heads gave 20 (binary16, 32 heads of 128, one thread); long tokens do best as few at a time as the
    /// product takes (8 heads of 128 floats, group 4, AVX2: 19.2 GB/s with two against 17.2 with eight).
    /// </summary>
    /// <param name="rowsPerHead">Rows of a key/value head.</param>
    /// <param name="tokenBytes">Bytes of a token's keys, all heads of the call together.</param>
    /// <param name="keysOfProduct">Keys that one product of four rows takes.</param>
    public static int KeyStep(int rowsPerHead, long tokenBytes, int keysOfProduct) => rowsPerHead == 1 || tokenBytes < LongToken ? MaxStep : keysOfProduct;

    /// <summary>
    /// The same for values; each part of the output is loaded and stored once a step. With a group of rows and short tokens arithmetic counts most, and steps are long. One row reads
    /// fastest in steps of 32 KB, where the outputs of all heads come from the second-level cache once in two tokens, and the tokens ahead are asked for in the order of memory: 32 heads of 128 in 32 bits 26 to 27 GB/s, where one
    /// token at a time had 24.5 and both tokens of a head asked for together 24.7; 4 tokens 25.4, 8 23.6. In 16 bits 4 tokens: 18.2 in order, 16.2 by heads (a Zen 4; a stream of 64-byte loads alone reads 30).
    /// </summary>
    /// <param name="rowsPerHead">Rows of a key/value head.</param>
    /// <param name="tokenBytes">Bytes of a token's values, all heads of the call together.</param>
    /// <param name="keys">Keys that the sequence's queries may see: values that are in the cache anyway are taken in long steps too (128 keys, 8 heads of 128 floats, group 4: 3 % less time).</param>
    public static int ValueStep(int rowsPerHead, long tokenBytes, int keys)
    {
        if (rowsPerHead > 1 && (tokenBytes < LongToken || keys * tokenBytes <= ShortContext)) return MaxStep;
        return rowsPerHead == 1 && tokenBytes >= VeryLongToken ? VeryLongTokens : 4;
    }
}
