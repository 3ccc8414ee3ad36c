using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>The sizes of a paged key/value cache. Its memory is <c>Layers * Blocks * BlockSize * KeyValueHeads * (KeyDim + ValueDim)</c> elements.</summary>
public sealed record PagedKeyValueCacheOptions
{
    /// <summary>How many blocks all sequences share; 1 or more.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public required int Blocks { get; init => field = AtLeastOne(value); }

    /// <summary>
    /// Tokens in a block; 1 or more. Small blocks waste less at the ends of sequences and share prefixes more finely, large ones have shorter tables: 16 is common.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public required int BlockSize { get; init => field = AtLeastOne(value); }

    /// <summary>Key/value heads; 1 or more.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public required int KeyValueHeads { get; init => field = AtLeastOne(value); }

    /// <summary>Elements of a key; 1 or more.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public required int KeyDim { get; init => field = AtLeastOne(value); }

    /// <summary>Elements of a value; 1 or more. Left out, it is <see cref="KeyDim"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public int ValueDim { get => field == 0 ? KeyDim : field; init => field = AtLeastOne(value); }

    /// <summary>Layers of the model, each with storage of its own under the same block tables; 1 by default.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public int Layers { get; init => field = AtLeastOne(value); } = 1;

    private static int AtLeastOne(int value, [CallerMemberName] string name = "") => value >= 1
        ? value
        : throw new ArgumentOutOfRangeException(name, value, $"{name} must be 1 or more.");
}
