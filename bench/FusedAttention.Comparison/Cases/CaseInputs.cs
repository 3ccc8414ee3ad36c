using FusedAttention.Checking.Problems;

namespace FusedAttention.Comparison.Cases;

/// <summary>
/// Queries, keys and values of a case, <see cref="RandomNumbers"/> of N(0, 1), in each layout that some contender wants: the same numbers in all of them. A layout is made when it is first
/// asked for and shared by all contenders that read it.
/// </summary>
internal sealed class CaseInputs : IDisposable
{
    private const string ScaleSuffix = "-scale";

    private readonly AttentionCase _case;
    private readonly Dictionary<string, AlignedBuffer> _buffers = new(StringComparer.Ordinal);

    public CaseInputs(AttentionCase attentionCase) => _case = attentionCase;

    /// <summary><c>[query][head][dim]</c> in the case's type of queries.</summary>
    public AlignedBuffer Query => Make("query", seed: 1, _case.QueryElements, _case.QueryType, _case.QueryHeads, _case.Queries, Layout.TokenMajor);

    /// <summary>The same numbers in single precision.</summary>
    public AlignedBuffer QueryAsSingle => Make("query-single", seed: 1, _case.QueryElements, AttentionElementType.Float32, _case.QueryHeads, _case.Queries, Layout.TokenMajor);

    /// <summary><c>[head][query][dim]</c>.</summary>
    public AlignedBuffer QueryHeadMajor => Make("query-hm", seed: 1, _case.QueryElements, _case.QueryType, _case.QueryHeads, _case.Queries, Layout.HeadMajor);

    /// <summary><c>[key][head][dim]</c>.</summary>
    public AlignedBuffer Key => Make("key", seed: 2, _case.KeyElements, _case.Type, _case.KeyValueHeads, _case.Keys, Layout.TokenMajor);

    /// <summary><c>[head][key][dim]</c>.</summary>
    public AlignedBuffer KeyHeadMajor => Make("key-hm", seed: 2, _case.KeyElements, _case.Type, _case.KeyValueHeads, _case.Keys, Layout.HeadMajor);

    /// <summary><c>[key][head][dim]</c>.</summary>
    public AlignedBuffer Value => Make("value", seed: 3, _case.KeyElements, _case.Type, _case.KeyValueHeads, _case.Keys, Layout.TokenMajor);

    /// <summary><c>[head][key][dim]</c>.</summary>
    public AlignedBuffer ValueHeadMajor => Make("value-hm", seed: 3, _case.KeyElements, _case.Type, _case.KeyValueHeads, _case.Keys, Layout.HeadMajor);

    /// <summary><c>[head][dim][key]</c>.</summary>
    public AlignedBuffer ValueTransposed => Make("value-t", seed: 3, _case.KeyElements, _case.Type, _case.KeyValueHeads, _case.Keys, Layout.Transposed);

    /// <summary><c>[key][head]</c> in single precision: what the codes of <see cref="Key"/> are multiplied with, for keys of <see cref="AttentionElementType.Int8"/>; null for others.</summary>
    public AlignedBuffer? KeyScale => Scale("key", Key);

    /// <summary>The same for <see cref="Value"/>.</summary>
    public AlignedBuffer? ValueScale => Scale("value", Value);

    private enum Layout
    {
        TokenMajor,
        HeadMajor,
        Transposed,
    }

    public void Dispose()
    {
        foreach (AlignedBuffer buffer in _buffers.Values) buffer.Dispose();
        _buffers.Clear();
    }

    /// <summary>Made along with the codes.</summary>
    private AlignedBuffer? Scale(string name, AlignedBuffer codes) => codes.Length > 0 && _buffers.TryGetValue(name + ScaleSuffix, out AlignedBuffer? scales) ? scales : null;

    private AlignedBuffer Make(string name, int seed, long elements, AttentionElementType type, int heads, int tokens, Layout layout)
    {
        if (_buffers.TryGetValue(name, out AlignedBuffer? made)) return made;
        var buffer = new AlignedBuffer(ElementRow.Bytes(type, elements));
        _buffers.Add(name, buffer);
        AlignedBuffer? scales = null;
        if (type == AttentionElementType.Int8)
        {
            if (layout != Layout.TokenMajor) throw new NotSupportedException("Integers with scales are token-major only.");
            scales = new AlignedBuffer((long)tokens * heads * sizeof(float));
            _buffers.Add(name + ScaleSuffix, scales);
        }

        var numbers = RandomNumbers.Normal(seed, elements);

        // All layouts are filled in the order of the token-major one, because that is the order of the numbers.
        int dim = _case.Dim;
        float[] row = new float[dim];
        float[] one = new float[1];
        long at = 0;
        for (int token = 0; token < tokens; token++)
        {
            for (int head = 0; head < heads; head++)
            {
                numbers.CopyTo(row, at);

                // To the type of queries, so that copies in single precision hold the same numbers.
                ElementRow.Round(_case.QueryType, row);
                if (scales is not null)
                {
                    KeyValueQuantization.ToInt8<float>(row, dim, buffer.Elements<sbyte>(at, dim), scales.Elements<float>(at / dim, 1));
                }
                else if (layout == Layout.Transposed)
                {
                    for (int d = 0; d < dim; d++)
                    {
                        one[0] = row[d];
                        ElementRow.Store(type, one, buffer, ((((long)head * dim) + d) * tokens) + token);
                    }
                }
                else
                {
                    ElementRow.Store(type, row, buffer, layout == Layout.TokenMajor ? at : (((long)head * tokens) + token) * dim);
                }

                at += dim;
            }
        }

        return buffer;
    }
}
