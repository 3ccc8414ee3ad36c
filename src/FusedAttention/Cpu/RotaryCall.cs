using FusedAttention.Cpu.Rotary;
using FusedAttention.Cpu.Threading;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu;

/// <summary>Rows of queries or keys, rotated in place: blocks of tokens on the worker pool. Reused between calls.</summary>
internal sealed unsafe class RotaryCall : ParallelJob
{
    /// <summary>Elements of an item, at least: 64 KB of floats are read and written in some 5 us, about what waking a thread costs, so the rows of a decoding step stay on the caller.</summary>
    private const long ItemElements = 16_384;

    private static readonly JobPool<RotaryCall> Pool = new(static () => new());

    private RotaryRows _rows;
    private RotaryTurns _turns = null!;
    private CpuKernels _kernels = null!;
    private int _tokensPerItem;

    private RotaryCall()
    {
    }

    /// <summary>Rotates; returns when all rows are written.</summary>
    public static void Run(in RotaryRows rows, RotaryTurns turns, CpuExecution execution)
    {
        CpuKernels kernels = KernelSelector.Select(execution.InstructionSet);
        if (rows.Tokens == 0 || rows.Heads == 0) return;
        RotaryCall call = Pool.Rent();
        try
        {
            call._rows = rows;
            call._turns = turns;
            call._kernels = kernels;
            long tokenElements = (long)rows.Heads * turns.HeadDim;
            call._tokensPerItem = (int)Math.Min(rows.Tokens, (ItemElements + tokenElements - 1) / tokenElements);
            WorkerPool.Shared.Run(call, (int)(((long)rows.Tokens + call._tokensPerItem - 1) / call._tokensPerItem), execution.MaxDegreeOfParallelism, CancellationToken.None);
        }
        finally
        {
            call._rows = default;
            Pool.Return(call);
        }
    }

    /// <inheritdoc />
    protected override void RunItem(int item, int worker)
    {
        int size = _rows.Type.Size(), end = (int)Math.Min(_rows.Tokens, ((long)item + 1) * _tokensPerItem);
        for (int token = item * _tokensPerItem; token < end; token++)
        {
            (int batch, int inBatch) = Math.DivRem(token, _rows.TokensPerBatch);
            var heads = new HeadRows((nint)(_rows.First + (((batch * _rows.BatchStride) + (inBatch * _rows.TokenStride)) * size)), _rows.Type, _rows.HeadStride);
            RotaryPass.Rotate(_kernels, _turns, _rows.Positions[_rows.HasPositionsOfEachBatch ? token : inBatch], _rows.Heads, heads, heads);
        }
    }
}

/// <summary>Rows <c>[batch, tokens, heads, dim]</c> of a caller; strides in elements. Pointers are valid during the call.</summary>
internal readonly unsafe struct RotaryRows
{
    public byte* First { get; init; }

    public AttentionElementType Type { get; init; }

    /// <summary>Of all batches together.</summary>
    public int Tokens { get; init; }

    public int TokensPerBatch { get; init; }

    public int Heads { get; init; }

    public long BatchStride { get; init; }

    public long TokenStride { get; init; }

    public long HeadStride { get; init; }

    public int* Positions { get; init; }

    /// <summary>Whether there is a position for each token of each batch, or those of one batch stand for all.</summary>
    public bool HasPositionsOfEachBatch { get; init; }
}
