using System.Numerics.Tensors;
using FusedAttention.Samples.TextGeneration.Devices;

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
    private readonly RotaryEmbedding? _rotary;
    private readonly CpuExecution _execution;
    private readonly IAttentionDevice _device;
    private int _rows;
    private float[] _x = [], _h = [], _q = [], _k = [], _v = [], _attended = [], _gate = [], _up = [], _logits = [];

    /// <param name="weights">The weights.</param>
    /// <param name="threads">Threads to use at most; -1 for one per processor.</param>
    /// <param name="rowInvariant">One arithmetic for any number of rows: chunks, batches and decoding give the same bits.</param>
    /// <param name="device">Where keys and values are and attention runs; null for the processor.</param>
    public LanguageModel(ModelWeights weights, int threads = -1, bool rowInvariant = false, IAttentionDevice? device = null)
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
        if (_config.Positions == PositionSignal.Rotary) _rotary = new(new() { HeadDim = _config.HeadDim, Base = _config.RotaryBase, Pairing = RotaryPairing.Interleaved });
        _execution = new() { MaxDegreeOfParallelism = threads };
        _device = device ?? new CpuDevice(threads);
    }

    public ModelConfig Config => _config;

    /// <summary>Where attention runs.</summary>
    public string DeviceName => _device.Name;

    /// <summary>A cache for this model.</summary>
    public KeyValueCache CreateCache<T>(int blocks, int blockSize)
        where T : unmanaged
        => _device.CreateCache<T>(new() { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = _config.KeyValueHeads, KeyDim = _config.HeadDim, Layers = _config.Layers });

    /// <summary>Runs tokens through the model and leaves their keys and values in the cache.</summary>
    /// <param name="cache">Has room for the tokens already (<c>Extend</c>).</param>
    /// <param name="batch">Which sequences the tokens continue, in the order of the tokens.</param>
    /// <param name="tokens">One a row.</param>
    /// <param name="logitRows">The rows whose logits are wanted.</param>
    /// <returns>[logitRows, vocabulary], valid until the next call.</returns>
    public ReadOnlySpan<float> Forward(KeyValueCache cache, PagedBatch batch, ReadOnlySpan<int> tokens, ReadOnlySpan<int> logitRows)
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
    private void Attend(int layer, LayerWeights w, KeyValueCache cache, PagedBatch batch, int rows)
    {
        Normalize(w.AttentionNorm, rows);
        Multiply(_h, w.Query, _q, rows);
        Multiply(_h, w.Key, _k, rows);
        Multiply(_h, w.Value, _v, rows);
        int keyElements = rows * _config.KeyValueHeads * _config.HeadDim, queryElements = rows * _config.Heads * _config.HeadDim;
        cache.Write<float>(layer, batch, _k.AsSpan(0, keyElements), _v.AsSpan(0, keyElements), _rotary);
        _rotary?.Apply(_q.AsSpan(0, queryElements), batch.Positions, _execution);
        _device.Attend(_q.AsSpan(0, queryElements), _attended.AsSpan(0, queryElements), _config.Heads, cache, layer, batch, _attention);

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
