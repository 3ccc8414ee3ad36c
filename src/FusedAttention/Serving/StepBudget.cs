namespace FusedAttention.Serving;

/// <summary>
/// How the prompts in progress divide the tokens that decoding leaves in a step: the first one gets up to a share of them, and the others equal parts of the rest. What they do not need goes to those who can use it,
/// the older first.
/// </summary>
/// <remarks>The first, which is the oldest, so moves on as fast as its share allows, and nobody behind it waits for its end: eight prompts of 100 tokens behind one of 100,000 take 4 steps of 512 tokens.</remarks>
internal struct StepBudget
{
    /// <summary>How many of those that wait are counted as if they had been admitted. Each gets a part large enough that short prompts run as a whole.</summary>
    public const int ExpectedPrompts = 4;

    private readonly int _share;
    private readonly int _part;
    private bool _isFirst = true;

    /// <param name="tokens">Tokens beside the one that each running request gets.</param>
    /// <param name="prompts">Prompts in progress.</param>
    /// <param name="waiting">Requests that may be admitted.</param>
    /// <param name="share">The most that the first prompt takes while there are others.</param>
    public StepBudget(int tokens, int prompts, int waiting, double share)
    {
        Left = tokens;
        int others = prompts + Math.Min(waiting, ExpectedPrompts) - 1;
        _share = others > 0 ? Math.Max(1, (int)(tokens * share)) : tokens;
        _part = others > 0 ? Math.Max(1, (tokens - _share) / others) : tokens;
    }

    /// <summary>Tokens that nobody has yet.</summary>
    public int Left { get; private set; }

    /// <summary>The part of the next prompt, in order.</summary>
    /// <param name="wanted">What it could use.</param>
    public int TakePart(int wanted)
    {
        int part = _isFirst ? _share : _part;
        _isFirst = false;
        return Take(Math.Min(wanted, part));
    }

    /// <summary>More for a prompt that has its part, as long as it has no more than the first one's share.</summary>
    /// <param name="wanted">What it could still use.</param>
    /// <param name="taken">What it has.</param>
    public int TakeUpToShare(int wanted, int taken) => Take(Math.Min(wanted, Math.Max(0, _share - taken)));

    /// <summary>As much as there is.</summary>
    public int Take(int wanted)
    {
        int taken = Math.Min(wanted, Left);
        Left -= taken;
        return taken;
    }

    /// <summary>Gives tokens back.</summary>
    public void Return(int tokens) => Left += tokens;
}
