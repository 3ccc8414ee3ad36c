using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Contenders;

namespace FusedAttention.Comparison.Ggml;

/// <summary>How ggml computes attention, and from which layout.</summary>
internal enum GgmlPath
{
    /// <summary>The flash attention operator on a token-major cache, as llama.cpp keeps it.</summary>
    Flash,

    /// <summary>The same operator on a head-major cache.</summary>
    FlashHeadMajor,

    /// <summary>Product, softmax, product; values transposed. llama.cpp's other path.</summary>
    Unfused,
}

/// <summary>Attention by ggml: a graph over our own inputs. Queries and outputs are in single precision, which is all it has.</summary>
internal sealed unsafe class GgmlContender : Contender
{
    /// <summary>The unfused path stores all scores twice; beyond this it is left out.</summary>
    private const long MaxScoreBytes = 1L << 30;

    private const int PrecisionSingle = 10;

    private readonly GgmlLibrary _ggml;
    private readonly AttentionCase _case;
    private readonly List<nint> _buffers = [];
    private readonly AlignedBuffer _arena;
    private readonly AlignedBuffer? _maskMemory;
    private readonly nint _context;
    private readonly nint _output;
    private readonly nint _graph;
    private readonly nint _backend;
    private readonly nint _threadpool;

    public GgmlContender(GgmlLibrary ggml, AttentionCase c, CaseInputs inputs, GgmlPath path, int threads)
    {
        if (path == GgmlPath.Unfused && c.ScoreBytes > MaxScoreBytes) throw new NotOfferedException($"scores of {c.ScoreBytes >> 20} MB");
        if (c.Type == AttentionElementType.Int8) throw new NotOfferedException("no integers with a scale a token");
        if (c.IsEightBit && path == GgmlPath.Unfused) throw new NotOfferedException("blocks of transposed values would be other numbers");
        _ggml = ggml;
        _case = c;
        bool isFlash = path != GgmlPath.Unfused;
        long scores = isFlash ? 0 : 2 * c.ScoreBytes;
        _arena = new AlignedBuffer((4L << 20) + scores + (4 * c.QueryElements * sizeof(float)));
        _context = ggml.Init(new GgmlLibrary.InitParameters { MemorySize = (nuint)_arena.Length, Memory = _arena.Pointer });

        // Inputs lie in memory of ours; what the graph computes lies in the context's.
        ggml.SetNoAlloc(_context, 1);
        GgmlType type = c.Type switch
        {
            AttentionElementType.Float32 => GgmlType.Float32,
            AttentionElementType.Float16 => GgmlType.Float16,
            AttentionElementType.Q8Block => GgmlType.Q8Block,
            _ => GgmlType.BFloat16,
        };
        nint q = Permute(Input(GgmlType.Float32, inputs.QueryAsSingle, c.Dim, c.QueryHeads, c.Queries));
        bool isHeadMajor = path == GgmlPath.FlashHeadMajor;
        nint k = isHeadMajor ? Input(type, inputs.KeyHeadMajor, c.Dim, c.Keys, c.KeyValueHeads) : Permute(Input(type, inputs.Key, c.Dim, c.KeyValueHeads, c.Keys));
        nint v = path switch
        {
            GgmlPath.Flash => Permute(Input(type, inputs.Value, c.Dim, c.KeyValueHeads, c.Keys)),
            GgmlPath.FlashHeadMajor => Input(type, inputs.ValueHeadMajor, c.Dim, c.Keys, c.KeyValueHeads),
            _ => Input(type, inputs.ValueTransposed, c.Keys, c.Dim, c.KeyValueHeads),
        };
        nint mask = 0;
        if (c.IsCausal)
        {
            AttentionElementType maskType = isFlash ? AttentionElementType.Float16 : AttentionElementType.Float32;
            _maskMemory = CausalMask(c, maskType);
            mask = Input(isFlash ? GgmlType.Float16 : GgmlType.Float32, _maskMemory, c.Keys, c.Queries, 1);
        }

        ggml.SetNoAlloc(_context, 0);
        if (isFlash)
        {
            _output = ggml.FlashAttention(_context, q, k, v, mask, c.Scale, 0, 0);
            ggml.SetFlashPrecision(_output, PrecisionSingle);
        }
        else
        {
            nint s = ggml.MultiplyMatrices(_context, k, q);
            ggml.SetMultiplyPrecision(s, PrecisionSingle);
            nint p = ggml.SoftMax(_context, s, mask, c.Scale, 0);
            _output = ggml.Contiguous(_context, Permute(ggml.MultiplyMatrices(_context, v, p)), c.Dim, c.QueryHeads, c.Queries, 1);
        }

        _graph = ggml.NewGraph(_context);
        ggml.BuildForward(_graph, _output);
        _backend = ggml.InitBackend();
        ggml.SetThreads(_backend, threads);
        byte* parameters = stackalloc byte[8192]; // larger than the structure, whose size is not ours to know
        ggml.InitThreadpoolParameters(parameters, threads);
        _threadpool = ggml.NewThreadpool(parameters);
        ggml.SetThreadpool(_backend, _threadpool);
    }

    public override void Run()
    {
        int status = _ggml.Compute(_backend, _graph);
        if (status != 0) throw new InvalidOperationException($"ggml's graph ended with status {status}.");
    }

    public override void Rest() => _ggml.PauseThreadpool(_threadpool);

    public override void CopyOutput(Span<float> output) => new ReadOnlySpan<float>((float*)_ggml.Data(_output), output.Length).CopyTo(output);

    protected override void Dispose(bool disposing)
    {
        _ggml.FreeBackend(_backend);
        _ggml.FreeThreadpool(_threadpool);
        foreach (nint buffer in _buffers) _ggml.FreeBuffer(buffer);
        _ggml.Free(_context);
        _arena.Dispose();
        _maskMemory?.Dispose();
    }

    /// <summary>0 at the keys that a query sees, negative infinity elsewhere.</summary>
    private static AlignedBuffer CausalMask(AttentionCase c, AttentionElementType type)
    {
        int size = type == AttentionElementType.Float32 ? sizeof(float) : sizeof(ushort);
        var mask = new AlignedBuffer((long)c.Queries * c.Keys * size);
        float[] row = new float[c.Keys];
        for (int query = 0; query < c.Queries; query++)
        {
            for (int key = 0; key < c.Keys; key++) row[key] = key <= query + c.Keys - c.Queries ? 0 : float.NegativeInfinity;
            ElementRow.Store(type, row, mask, (long)query * c.Keys);
        }

        return mask;
    }

    private nint Input(GgmlType type, AlignedBuffer memory, long n0, long n1, long n2)
    {
        nint tensor = _ggml.NewTensor(_context, (int)type, n0, n1, n2, 1);
        nint buffer = _ggml.BufferFromPointer(memory.Pointer, (nuint)memory.Length);
        _buffers.Add(buffer);
        if (_ggml.PlaceTensor(buffer, tensor, memory.Pointer) != 0) throw new InvalidOperationException("ggml did not take a tensor's memory.");
        return tensor;
    }

    /// <summary>A view with heads and tokens exchanged.</summary>
    private nint Permute(nint tensor) => _ggml.Permute(_context, tensor, 0, 2, 1, 3);
}
