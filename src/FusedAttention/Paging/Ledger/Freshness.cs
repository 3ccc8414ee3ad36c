using System.Numerics.Tensors;

namespace FusedAttention.Paging.Ledger;

/// <summary>
/// How many leading tokens of a sequence were computed since the last <c>ForgetPrefixes</c>, from nothing but such tokens: only these may be published. A key or value of a model depends on all tokens
/// before it, so one old token spoils whatever follows it, whenever that was computed.
/// </summary>
/// <remarks>
/// Times are counted in epochs: each <c>ForgetPrefixes</c> begins one. Tokens are fresh that are appended behind fresh ones; and old ones become fresh when they are written again in every layer, from the
/// first old one on.
/// </remarks>
internal sealed class Freshness
{
    private long _epoch;
    private int _tokens;
    private int[] _rewritten = [];
    private bool _isRewriting;

    /// <summary>Leading tokens that may be published.</summary>
    public int Tokens(long epoch) => _epoch == epoch ? _tokens : 0;

    /// <summary>Nothing is known of any token.</summary>
    public void Reset()
    {
        _epoch = 0;
        _tokens = 0;
        _isRewriting = false;
    }

    /// <summary>The sequence starts with tokens that others have published in this epoch.</summary>
    public void Start(long epoch, int tokens)
    {
        _epoch = epoch;
        _tokens = tokens;
        _isRewriting = false;
    }

    /// <summary>Tokens are appended.</summary>
    /// <param name="epoch">Now.</param>
    /// <param name="length">Tokens before.</param>
    /// <param name="newLength">Tokens after.</param>
    public void Extend(long epoch, int length, int newLength)
    {
        if (Tokens(epoch) == length) Start(epoch, newLength);
    }

    public void Truncate(int length)
    {
        _tokens = Math.Min(_tokens, length);
        if (!_isRewriting) return;
        foreach (ref int layer in _rewritten.AsSpan()) layer = Math.Min(layer, length);
    }

    /// <summary>Tokens are written in place, in one layer.</summary>
    /// <param name="epoch">Now.</param>
    /// <param name="length">Tokens of the sequence.</param>
    /// <param name="layer">Which.</param>
    /// <param name="layers">How many layers there are.</param>
    /// <param name="position">The first token that is written.</param>
    /// <param name="count">How many are.</param>
    /// <returns>Whether it mattered: then the same tokens matter in the other layers too.</returns>
    public bool Rewrite(long epoch, int length, int layer, int layers, int position, int count)
    {
        int tokens = Tokens(epoch);
        if (tokens == length) return false;
        bool begins = _epoch != epoch || !_isRewriting;
        if (position > (begins ? tokens : _rewritten[layer])) return false;
        if (begins)
        {
            if (_rewritten.Length < layers) _rewritten = new int[layers];
            _rewritten.AsSpan().Fill(tokens);
            Start(epoch, tokens);
            _isRewriting = true;
        }

        if (position + count <= _rewritten[layer]) return false;
        _rewritten[layer] = position + count;
        _tokens = Math.Max(_tokens, TensorPrimitives.Min<int>(_rewritten));
        return true;
    }

    /// <summary>Takes over what another sequence with the same tokens has.</summary>
    public void CopyFrom(Freshness other)
    {
        if (other._isRewriting)
        {
            if (_rewritten.Length < other._rewritten.Length) _rewritten = new int[other._rewritten.Length];
            other._rewritten.CopyTo(_rewritten.AsSpan());
        }

        _epoch = other._epoch;
        _tokens = other._tokens;
        _isRewriting = other._isRewriting;
    }
}
