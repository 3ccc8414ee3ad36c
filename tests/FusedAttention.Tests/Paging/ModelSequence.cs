namespace FusedAttention.Tests.Paging;

/// <summary>
/// What a sequence of a cache ought to hold, kept the plain way. The payload of an appended token is a hash of all tokens up to it, as keys and values of a model depend on nothing else: so
/// blocks that are shared because their tokens are equal must hold equal payloads, and a false match shows.
/// </summary>
internal sealed class ModelSequence
{
    public List<int> Tokens { get; } = [];

    public List<int> Hashes { get; } = [];

    /// <summary>What is stored: the hash, unless the position was written again.</summary>
    public List<float> Payloads { get; } = [];

    /// <summary>Blocks dropped.</summary>
    public int Dropped { get; set; }

    /// <summary>How many leading positions hold what their tokens say.</summary>
    public int Faithful { get; set; }

    /// <summary>Nothing was ever rewritten or dropped.</summary>
    public bool Pristine { get; set; } = true;

    public int Length => Tokens.Count;

    public static int HashAfter(int hash, int token) => (int)(((((long)hash + 1) * 48271) + ((token + 1) * 7919L)) % 16_777_213);

    public void Append(int token)
    {
        int hash = HashAfter(Length == 0 ? 0 : Hashes[^1], token);
        if (Faithful == Length) Faithful++;
        Tokens.Add(token);
        Hashes.Add(hash);
        Payloads.Add(hash);
    }

    public void Truncate(int length)
    {
        Tokens.RemoveRange(length, Length - length);
        Hashes.RemoveRange(length, Hashes.Count - length);
        Payloads.RemoveRange(length, Payloads.Count - length);
        Faithful = Math.Min(Faithful, length);
        if (length == 0) Dropped = 0;
    }

    public ModelSequence Copy()
    {
        var copy = new ModelSequence { Dropped = Dropped, Faithful = Faithful, Pristine = Pristine };
        copy.Tokens.AddRange(Tokens);
        copy.Hashes.AddRange(Hashes);
        copy.Payloads.AddRange(Payloads);
        return copy;
    }
}
