using System.Collections.Immutable;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Metal.Launching;

/// <summary>A line <c>#define Name Value</c> in front of a family's source: element types, dimensions, tile sizes.</summary>
internal readonly record struct SourceDefinition(string Name, string Value);

/// <summary>The types that function constants have here, with Metal's codes (MTLDataType).</summary>
internal enum FunctionConstantType
{
    Float = 3,
    Int = 29,
    UInt = 33,
    Bool = 53,
}

/// <summary>The value of a function constant: masks and features are chosen with these, after the front end and before machine code.</summary>
/// <param name="Index">As in <c>[[function_constant(index)]]</c>.</param>
/// <param name="Name">As in the source.</param>
/// <param name="Type">Its type.</param>
/// <param name="Bits">The value: a bool as 0 or 1, a float by its bits.</param>
internal readonly record struct FunctionConstant(int Index, string Name, FunctionConstantType Type, int Bits);

/// <summary>
/// A kernel with everything that is fixed before machine code is made: the family's source, what is defined in front of it, the entry point and the function
/// constants. Equal functions share one pipeline, and equal <see cref="LibraryKey"/>s one compiled library.
/// </summary>
/// <remarks>Calls take theirs from a table of those that exist, so looking for a pipeline compares references, and hashes the texts once in a function's life.</remarks>
internal sealed record KernelFunction(KernelFamily Family, string Name, ImmutableArray<SourceDefinition> Definitions, ImmutableArray<FunctionConstant> Constants)
{
    /// <summary>0 until it is asked for.</summary>
    private int _hash;

    /// <summary>For <c>with</c>, which is about to change something: the hash is that of another function.</summary>
    private KernelFunction(KernelFunction other) =>
        (Family, Name, Definitions, Constants, Score, Keep) = (other.Family, other.Name, other.Definitions, other.Constants, other.Score, other.Keep);

    /// <summary>The score function that is a part of the text; null without one.</summary>
    public ScoreForm? Score { get; init; }

    /// <summary>The mask function that is; null without one.</summary>
    public ScoreForm? Keep { get; init; }

    /// <summary>Whether there is one of the two.</summary>
    public bool HasFunctions => Score is not null || Keep is not null;

    /// <summary>A library in words, on one line.</summary>
    public string LibraryName => $"{Family} {string.Join(' ', Definitions.Select(d => $"{d.Name}={d.Value}"))}{(HasFunctions ? " with functions" : "")}";

    /// <summary>What tells one library (source text) from another.</summary>
    public string LibraryKey => HasFunctions ? $"{LibraryName}\n{FunctionText.Sources(Score, Keep)}" : LibraryName;

    public bool Equals(KernelFunction? other) => ReferenceEquals(this, other) || (other is not null
        && Family == other.Family && string.Equals(Name, other.Name, StringComparison.Ordinal)
        && Definitions.AsSpan().SequenceEqual(other.Definitions.AsSpan())
        && Constants.AsSpan().SequenceEqual(other.Constants.AsSpan())
        && Equals(Score, other.Score) && Equals(Keep, other.Keep));

    public override int GetHashCode()
    {
        if (_hash != 0) return _hash;
        var hash = default(HashCode);
        hash.Add(Family);
        hash.Add(Name, StringComparer.Ordinal);
        foreach (SourceDefinition definition in Definitions) hash.Add(definition);
        foreach (FunctionConstant constant in Constants) hash.Add(constant);
        hash.Add(Score);
        hash.Add(Keep);
        return _hash = hash.ToHashCode();
    }
}
