using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>Several documents in one sequence: a query sees the keys of its own one only. Documents that lie one after the other cost about what a packed call of them costs: tiles across two are never read.</summary>
public readonly struct DocumentMask : IMaskFunction
{
    private readonly ScoreTable _queries;
    private readonly ScoreTable _keys;

    /// <summary>One sequence whose queries are its keys.</summary>
    /// <param name="documents">The document of each token.</param>
    public DocumentMask(ReadOnlySpan<int> documents)
        : this(new ScoreTable(documents), new ScoreTable(documents))
    {
    }

    /// <summary>Any sequences.</summary>
    /// <param name="queries">The document of each query, <c>[sequences, queries]</c>.</param>
    /// <param name="keys">The document of each key, <c>[sequences, keys]</c>.</param>
    public DocumentMask(ScoreTable queries, ScoreTable keys) => (_queries, _keys) = (queries, keys);

    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => _queries.At(at.Batch, at.Query) == _keys.At(at.Batch, at.Key);
}
