namespace FusedAttention;

/// <summary>
/// Names a sequence in a paged cache. A handle whose sequence was freed, or that belongs to another cache, is recognised and refused wherever it is used:
/// no two sequences of a process ever have the same generation.
/// </summary>
public readonly record struct CacheSequence
{
    internal CacheSequence(int id, long generation)
    {
        Id = id;
        Generation = generation;
    }

    /// <summary>A small number that is used again after the sequence has been freed.</summary>
    public int Id { get; }

    /// <summary>A number that is never used again in this process; 0 only in <c>default</c>, which names no sequence.</summary>
    public long Generation { get; }

    /// <summary>The handle as text, for messages.</summary>
    public override string ToString() => Generation == 0 ? "no sequence" : $"sequence {Id} (generation {Generation})";
}
