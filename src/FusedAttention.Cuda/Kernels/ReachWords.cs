using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Hides the keys of a tile that are out of a row's reach, where a row of the tile is shared by four lanes: a lane has two of every eight columns. Which of them are in reach are ones of a word for every 128
/// columns, and the bits of one row are asked one after the other, since the assembler then moves seven of them into predicates at once; asked in the order of registers it moves two.
/// </summary>
internal static class ReachWords
{
    private const int ColumnsOfWord = 128;

    /// <summary>Negative infinity in place of scores whose keys are out of the row's reach.</summary>
    /// <param name="start">The first key in reach, less the lane's first key of the tile.</param>
    /// <param name="end">Behind the last one, likewise.</param>
    /// <param name="scores">Of the row, and how far their keys are behind the lane's first.</param>
    public static void Hide(I32 start, I32 end, (F32 Score, int Column)[] scores)
    {
        I32 before = CountOf(start), within = CountOf(end);
        for (int word = 0; word * ColumnsOfWord <= scores[^1].Column; word++)
        {
            int first = word * 32;
            I32 ones = Between(before - first, within - first);
            foreach ((F32 score, int column) in scores)
            {
                int bit = CountOf(column) - first;
                if (bit is >= 0 and < 32) score.Set(F32.Select((ones & (1 << bit)).IsNot(0), score, float.NegativeInfinity));
            }
        }
    }

    /// <summary>The word of the first 128 columns: ones where keys are in reach.</summary>
    /// <param name="start">The first key in reach, less the lane's first key of the tile.</param>
    /// <param name="end">Behind the last one, likewise.</param>
    public static I32 Of(I32 start, I32 end) => Between(CountOf(start), CountOf(end));

    /// <summary>A word whose ones are those from one bit on and below another; numbers beyond the word are its ends.</summary>
    public static I32 Between(I32 before, I32 within) => Ones(within) & ~Ones(before);

    /// <summary>How many of the lane's columns, two of every eight, lie in front of a column.</summary>
    private static I32 CountOf(I32 column) => ((column >> 3) << 1) + I32.Min(column & 7, 2);

    private static int CountOf(int column) => (column / 8 * 2) + (column % 8);

    /// <summary>As many ones from the lowest bit on.</summary>
    private static I32 Ones(I32 count) => I32.ShiftLeft(1, I32.Min(I32.Max(count, 0), 32)) - 1;
}
