namespace FusedAttention.Metal.Planning;

/// <summary>How the keys of a sequence with few rows are split among threadgroups.</summary>
internal static class SplitTable
{
    /// <summary>
    /// Rows of a key/value head (queries times the group) up to which a sequence with more than one query is decoded: a block of the prefill kernel has as many, and from there on
    /// its products by matrices pay.
    /// </summary>
    public const int MaxRows = 32;

    private const int MinKeys = 256;
    private const int MaxSplits = 64;

    /// <summary>
    /// Keys of a split, a power of two, by the sequence's own number of keys and nothing else: splits begin at multiples of it, so the bits of a row never depend on the batch or
    /// the device. 256 up to 16k keys, then as many as keep it to 64 splits. With 8 key/value heads of 128 in 16 bits a split of 256 keys of one head is 128 KB, and a
    /// context of 1k makes 32 threadgroups, for 8 to 40 cores.
    /// </summary>
    public static int Keys(int sequenceKeys)
    {
        int keys = MinKeys;
        while ((sequenceKeys + (long)keys - 1) / keys > MaxSplits) keys *= 2;
        return keys;
    }
}
