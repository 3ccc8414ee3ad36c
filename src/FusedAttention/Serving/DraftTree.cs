namespace FusedAttention.Serving;

/// <summary>Tokens that are believed to follow a request's last one, each after another of them or after that last one: a line, or a tree of alternatives. Any first part of it is one too.</summary>
internal sealed class DraftTree
{
    /// <summary>In place of a draft: the request's last token.</summary>
    public const int Root = -1;

    private readonly int[] _tokens;
    private readonly int[] _parents;

    /// <param name="tokens">The tokens.</param>
    /// <param name="parents">Which draft each follows: <see cref="Root"/> or an earlier one. Empty for a line.</param>
    /// <exception cref="ArgumentException">There is not one parent a token, or a parent is no earlier draft.</exception>
    public DraftTree(ReadOnlySpan<int> tokens, ReadOnlySpan<int> parents)
    {
        if (!parents.IsEmpty && parents.Length != tokens.Length)
            throw new ArgumentException($"There are {tokens.Length} drafts and {parents.Length} parents; each draft needs one.", nameof(parents));
        for (int i = 0; i < parents.Length; i++)
        {
            if (parents[i] < Root || parents[i] >= i)
                throw new ArgumentException($"Draft {i} has the parent {parents[i]}, but must have an earlier draft, or -1 for the request's last token.", nameof(parents));
            IsLine &= parents[i] == i - 1;
        }

        _tokens = tokens.ToArray();
        _parents = parents.ToArray();
    }

    public int Count => _tokens.Length;

    public ReadOnlySpan<int> Tokens => _tokens;

    /// <summary>Whether each draft follows the one before.</summary>
    public bool IsLine { get; } = true;

    public int Parent(int draft) => _parents.Length == 0 ? draft - 1 : _parents[draft];

    /// <summary>How many tokens a draft lies behind the request's last one.</summary>
    public int Depth(int draft)
    {
        if (IsLine) return draft + 1;
        int depth = 0;
        for (; draft != Root; draft = Parent(draft)) depth++;
        return depth;
    }

    /// <summary>The draft that says a token follows another draft, among the first of them; -1 if there is none.</summary>
    public int Find(int parent, int token, int count)
    {
        for (int draft = parent + 1; draft < count; draft++)
            if (_tokens[draft] == token && Parent(draft) == parent) return draft;
        return -1;
    }
}
