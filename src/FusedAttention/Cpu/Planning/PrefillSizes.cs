namespace FusedAttention.Cpu.Planning;

/// <summary>What the working memory of a prefill item depends on.</summary>
/// <param name="Rows">Rows of the item.</param>
/// <param name="KeyDim">Elements of a query or key.</param>
/// <param name="ValueDim">Elements of a value.</param>
/// <param name="IsLong">Whether the sequence has more keys than one block of <see cref="PrefillTiles.LongKeys"/>.</param>
/// <param name="HasScales">Whether keys and values have scales beside them.</param>
internal readonly record struct PrefillSizes(int Rows, int KeyDim, int ValueDim, bool IsLong, bool HasScales = false)
{
    /// <summary>Whether <paramref name="keys"/> keys need the sums of several blocks.</summary>
    public static bool AreLong(int keys) => keys > PrefillTiles.LongKeys;
}
