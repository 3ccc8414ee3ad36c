namespace FusedAttention.Problems;

/// <summary>Which row of a call a function is asked about.</summary>
/// <param name="Batch">The sequence.</param>
/// <param name="Head">The query head.</param>
/// <param name="Query">The query within the sequence.</param>
/// <param name="Position">Its position on the key axis.</param>
internal readonly record struct FunctionRow(int Batch, int Head, int Query, long Position);

/// <summary>A call's score function in the form of one instruction set. The processor's: a GPU has it in the text of its kernels.</summary>
internal abstract unsafe class BoundScore
{
    /// <summary><c>s = f(scale * s)</c> for whole vectors of scores.</summary>
    /// <param name="row">The row.</param>
    /// <param name="scores">The score of <paramref name="firstKey"/>, and those behind it.</param>
    /// <param name="firstKey">The first key.</param>
    /// <param name="vectors">How many vectors.</param>
    /// <param name="scale">What the scores are multiplied with before.</param>
    public abstract void Apply(in FunctionRow row, float* scores, long firstKey, int vectors, float scale);
}

/// <summary>A call's mask function in the form of one instruction set. It tells the same of a key whoever asks: what is passed over and what is excluded cannot differ.</summary>
internal abstract unsafe class BoundMask
{
    /// <summary>Negative infinity for keys that are not kept, in whole vectors of scores.</summary>
    /// <param name="row">The row.</param>
    /// <param name="scores">The score of <paramref name="firstKey"/>, and those behind it.</param>
    /// <param name="firstKey">The first key.</param>
    /// <param name="vectors">How many vectors.</param>
    public abstract void Apply(in FunctionRow row, float* scores, long firstKey, int vectors);

    /// <summary>The first key of [start, end) that is kept; <paramref name="end"/> if there is none.</summary>
    public abstract int First(in FunctionRow row, int start, int end);

    /// <summary>One past the last key of [start, end) that is kept; <paramref name="start"/> if there is none.</summary>
    public abstract int End(in FunctionRow row, int start, int end);

    /// <summary>Whether a key is kept.</summary>
    public bool Keeps(in FunctionRow row, int key) => First(row, key, key + 1) == key;
}
