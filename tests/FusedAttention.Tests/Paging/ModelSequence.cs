namespace FusedAttention.Tests.Paging;

/// <summary>
/// What a sequence of a cache ought to hold, kept the plain way. The payload of a token is a hash of all tokens up to it and of the weights in use when each was computed, as keys and values of a model depend
/// on nothing else: so blocks that are shared because their tokens are equal must hold equal payloads, and a false match shows, and one that other weights have computed.
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

    /// <summary>Nothing is dropped, or rewritten with anything but what its tokens say.</summary>
    public bool Pristine { get; set; } = true;

    public int Length => Tokens.Count;

    public static int HashAfter(int hash, int token, int weights) => (int)(((((long)hash + 1) * 48271) + ((token + 1) * 7919L) + (weights * 104_729L)) % 16_777_213);

    public void Append(int token, int weights)
    {
        int hash = HashAfter(Length == 0 ? 0 : Hashes[^1], token, weights);
        if (Faithful == Length) Faithful++;
        Tokens.Add(token);
        Hashes.Add(hash);
        Payloads.Add(hash);
    }

    /// <summary>Computes the first tokens again.</summary>
    public void Recompute(int tokens, int weights)
    {
        for (int i = 0; i < tokens; i++)
        {
            Hashes[i] = HashAfter(i == 0 ? 0 : Hashes[i - 1], Tokens[i], weights);
            Payloads[i] = Hashes[i];
        }

        Faithful = Math.Max(Faithful, tokens);
        if (Faithful == Length && Dropped == 0) Pristine = true;
    }

    /// <summary>How many leading tokens are what a model with these weights computes of them.</summary>
    public int ComputedBy(int weights)
    {
        int hash = 0;
        for (int i = 0; i < Faithful; i++)
        {
            hash = HashAfter(hash, Tokens[i], weights);
            if (Hashes[i] != hash) return i;
        }

        return Faithful;
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
