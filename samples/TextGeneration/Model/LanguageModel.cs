using System.Numerics.Tensors;

namespace FusedAttention.Samples.TextGeneration.Model;

/// <summary>
/// The model: tokens of any number of sequences in, logits out. Keys and values live in a paged cache; rows of prefills and of decoding requests go through together.
/// </summary>
/// <remarks>One thread at a time: the activations of a step are kept for the next one.</remarks>
internal sealed class LanguageModel
{
    private readonly ModelWeights _weights;
    private readonly ModelConfig _config;
    private readonly ParallelOptions _parallel;
    private readonly AttentionOptions _attention;
    private readonly CpuExecution _execution;
    private int _rows;
    private float[] _x = [], _h = [], _q = [], _k = [], _v = [], _attended = [], _gate = [], _up = [], _logits = [];

    /// <param name="weights">The weights.</param>
    /// <param name="threads">Threads to use at most; -1 for one per processor.</param>
    /// <param name="rowInvariant">One arithmetic for any number of rows: chunks, batches and decoding give the same bits.</param>
    public LanguageModel(ModelWeights weights, int threads = -1, bool rowInvariant = false)
    {
        _weights = weights;
        _config = weights.Config;
        _parallel = new() { MaxDegreeOfParallelism = threads };
        _attention = new()
        {
            Mask = AttentionMask.Causal,
            AlibiSlopes = _config.Positions == PositionSignal.Alibi ? AlibiSlopes.ForHeads(_config.Heads) : [],
            RowInvariant = rowInvariant,
        };
        _execution = new() { MaxDegreeOfParallelism = threads };
    }

    public ModelConfig Config => _config;

    /// <summary>A cache for this model.</summary>
    public PagedKeyValueCache<T> CreateCache<T>(int blocks, int blockSize)
        where T : unmanaged
        => new(new() { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = _config.KeyValueHeads, KeyDim = _config.HeadDim, Layers = _config.Layers });

    /// <summary>Runs tokens through the model and leaves their keys and values in the cache.</summary>
    /// <param name="cache">Has room for the tokens already (<c>Extend</c>).</param>
    /// <param name="batch">Which sequences the tokens continue, in the order of the tokens.</param>
    /// <param name="tokens">One a row.</param>
    /// <param name="logitRows">The rows whose logits are wanted.</param>
    /// <returns>[logitRows, vocabulary], valid until the next call.</returns>
    public ReadOnlySpan<float> Forward<T>(PagedKeyValueCache<T> cache, PagedBatch batch, ReadOnlySpan<int> tokens, ReadOnlySpan<int> logitRows)
        where T : unmanaged
    {
        int rows = tokens.Length, dim = _config.Dim;
        EnsureRows(rows);
        for (int row = 0; row < rows; row++) _weights.Embedding.Row(tokens[row]).CopyTo(_x.AsSpan(row * dim));
        for (int layer = 0; layer < _config.Layers; layer++)
        {
            LayerWeights w = _weights.Layers[layer];
            Attend(layer, w, cache, batch, rows);
            FeedForward(w, rows);
        }

        return Logits(logitRows);
    }

    /// <summary><c>x += Wo attention(rms_norm(x))</c></summary>
    private void Attend<T>(int layer, LayerWeights w, PagedKeyValueCache<T> cache, PagedBatch batch, int rows)
        where T : unmanaged
    {
        Normalize(w.AttentionNorm, rows);
        Multiply(_h, w.Query, _q, rows);
        Multiply(_h, w.Key, _k, rows);
        Multiply(_h, w.Value, _v, rows);
        if (_config.Positions == PositionSignal.Rotary) RotateQueriesAndKeys(batch.Sequences);
        int keyElements = rows * _config.KeyValueHeads * _config.HeadDim;
        cache.Write(layer, batch, _k.AsSpan(0, keyElements), _v.AsSpan(0, keyElements));

        ReadOnlySpan<nint> shape = [rows, _config.Heads, _config.HeadDim];
        var query = new ReadOnlyTensorSpan<float>(_q.AsSpan(0, rows * _config.Heads * _config.HeadDim), shape);
        var output = new TensorSpan<float>(_attended.AsSpan(0, rows * _config.Heads * _config.HeadDim), shape);
        Attention.ForwardPaged(query, output, cache, layer, batch, _attention, execution: _execution);

        Multiply(_attended, w.Output, _h, rows);
        AddToX(rows);
    }

    /// <summary><c>x += Wdown (silu(Wgate h) * (Wup h))</c> with <c>h = rms_norm(x)</c></summary>
    private void FeedForward(LayerWeights w, int rows)
    {
        Normalize(w.FeedForwardNorm, rows);
        Multiply(_h, w.Gate, _gate, rows);
        Multiply(_h, w.Up, _up, rows);
        Elementwise.GatedSilu(_gate.AsSpan(0, rows * _config.FeedForward), _up, _config.FeedForward);
        Multiply(_gate, w.Down, _h, rows);
        AddToX(rows);
    }

    private ReadOnlySpan<float> Logits(ReadOnlySpan<int> rows)
    {
        int dim = _config.Dim;

        // Rows ascend, so none is overwritten before it is moved.
        for (int i = 0; i < rows.Length; i++) _x.AsSpan(rows[i] * dim, dim).CopyTo(_x.AsSpan(i * dim));
        Normalize(_weights.FinalNorm, rows.Length);
        int count = rows.Length * _config.Vocabulary;
        if (_logits.Length < count) _logits = new float[count];
        Multiply(_h, _weights.Embedding, _logits, rows.Length);
        return _logits.AsSpan(0, count);
    }

    private void Normalize(float[] weight, int rows) => Elementwise.RmsNorm(_x.AsSpan(0, rows * _config.Dim), weight, _config.NormEpsilon, _h);

    private void Multiply(float[] x, Matrix weights, float[] y, int rows) => MatrixProduct.Multiply(x, weights, y, rows, _parallel);

    private void AddToX(int rows)
    {
        Span<float> x = _x.AsSpan(0, rows * _config.Dim);
        TensorPrimitives.Add(x, _h.AsSpan(0, x.Length), x);
    }

    private void RotateQueriesAndKeys(PagedSequences sequences)
    {
        int queryWidth = _config.Heads * _config.HeadDim, keyWidth = _config.KeyValueHeads * _config.HeadDim;
        for (int s = 0; s < sequences.ContextLengths.Length; s++)
        {
            int end = sequences.CumulativeQueryLengths[s + 1];
            for (int row = sequences.CumulativeQueryLengths[s]; row < end; row++)
            {
                int position = sequences.ContextLengths[s] - (end - row);
                Elementwise.Rotate(_q.AsSpan(row * queryWidth, queryWidth), _config.HeadDim, position, _config.RotaryBase);
                Elementwise.Rotate(_k.AsSpan(row * keyWidth, keyWidth), _config.HeadDim, position, _config.RotaryBase);
            }
        }
    }

    private void EnsureRows(int rows)
    {
        if (rows <= _rows) return;
        _rows = rows;
        int keyWidth = _config.KeyValueHeads * _config.HeadDim;
        _x = new float[rows * _config.Dim];
        _h = new float[rows * _config.Dim];
        _q = new float[rows * _config.Heads * _config.HeadDim];
        _attended = new float[_q.Length];
        _k = new float[rows * keyWidth];
        _v = new float[rows * keyWidth];
        _gate = new float[rows * _config.FeedForward];
        _up = new float[_gate.Length];
    }
}
