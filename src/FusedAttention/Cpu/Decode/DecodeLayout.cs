using FusedAttention.Cpu.Memory;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Decode;

/// <summary>The addresses of a tile's keys and values in head 0.</summary>
internal readonly unsafe struct TileRows(nint* keys, nint* values)
{
    /// <summary>Entries beyond the tile's last key or value, which repeat it: steps may begin at the last one, and tokens are asked for some steps ahead of it.</summary>
    public const int Padding = 2 * DecodeTiles.MaxStep;

    /// <summary>One a key of the tile, and <see cref="Padding"/> more.</summary>
    public nint* Keys => keys;

    /// <summary>One a value of the tile, and <see cref="Padding"/> more.</summary>
    public nint* Values => values;
}

/// <summary>What <see cref="IntegerProducts{TS, TV, TLanes}"/> multiplies, row after row, and what it adds to.</summary>
/// <param name="queries">Rounded queries, without gaps.</param>
/// <param name="querySteps">What their sums are multiplied with, a fourth of a vector for each row.</param>
/// <param name="weights">Rounded weights of a tile, <see cref="DecodeTiles.ScoreStride"/> a row.</param>
/// <param name="weightSteps">What one of them stands for; one a row.</param>
/// <param name="sums">Sums of a tile, as <see cref="MachineCode.Kernels.DecodeSums.IntegerColumns"/> says, without gaps.</param>
internal readonly unsafe struct IntegerRows(short* queries, float* querySteps, short* weights, float* weightSteps, int* sums)
{
    public readonly short* Queries = queries;
    public readonly float* QuerySteps = querySteps;
    public readonly short* Weights = weights;
    public readonly float* WeightSteps = weightSteps;
    public readonly int* Sums = sums;
}

/// <summary>Where things of the decode kernel lie in a worker's scratch memory.</summary>
internal readonly unsafe struct DecodeLayout
{
    public readonly int RowsPerHead;
    public readonly int QueryStride;
    public readonly int OutputStride;
    public readonly long Bytes;
    public readonly float* Query;
    public readonly float* Output;
    public readonly float* Max;
    public readonly float* Sum;
    public readonly float* Scores;
    public readonly float* Temporary;

    /// <summary>Scales of the tile's keys and values, <see cref="DecodeTiles.Keys"/> a head, where the call has them.</summary>
    public readonly float* KeyScales;
    public readonly float* ValueScales;

    /// <summary>One head of the tokens of a step as floats, <see cref="DecodeTiles.MaxStep"/> rows, where elements are in blocks.</summary>
    public readonly float* Widened;

    /// <summary>Where <see cref="IntegerProducts"/> takes the call.</summary>
    public readonly IntegerRows Integers;
    private readonly nint* _rows;

    public DecodeLayout(byte* scratch, AttentionProblem problem, int heads, int rows, int vectorWidth)
    {
        var memory = new ScratchMemory(scratch);
        RowsPerHead = rows == 1 ? 1 : (rows + DecodeTiles.Rows - 1) / DecodeTiles.Rows * DecodeTiles.Rows;
        QueryStride = (problem.KeyDim + vectorWidth - 1) / vectorWidth * vectorWidth;
        OutputStride = (problem.ValueDim + vectorWidth - 1) / vectorWidth * vectorWidth;
        long all = (long)heads * RowsPerHead;
        Query = memory.Take<float>(all * QueryStride);
        Output = memory.Take<float>(all * OutputStride);
        Max = memory.Take<float>(all);
        Sum = memory.Take<float>(all);
        Scores = memory.Take<float>(all * DecodeTiles.ScoreStride);
        Temporary = memory.Take<float>(DecodeTiles.Keys);
        AttentionElementType type = problem.KeyValueType;
        KeyScales = type.TakesScales() ? memory.Take<float>((long)heads * DecodeTiles.Keys) : null;
        ValueScales = type.TakesScales() ? memory.Take<float>((long)heads * DecodeTiles.Keys) : null;
        Widened = type == AttentionElementType.Q8Block ? memory.Take<float>(DecodeTiles.MaxStep * (long)Math.Max(QueryStride, OutputStride)) : null;
        if (IntegerProducts.Takes(problem, RowsPerHead, vectorWidth))
        {
            Integers = new IntegerRows(
                memory.Take<short>(all * problem.KeyDim), memory.Take<float>(all * DecodeTiles.Rows), memory.Take<short>(all * DecodeTiles.ScoreStride), memory.Take<float>(all), memory.Take<int>(all * problem.ValueDim));
        }

        _rows = memory.Take<nint>(2 * RowsOfTile);
        Bytes = memory.Used;
    }

    private static int RowsOfTile => 2 * (DecodeTiles.Keys + TileRows.Padding);

    /// <summary>Room for the addresses of the current tile and of the next.</summary>
    public TileRows Rows(int parity)
    {
        nint* start = _rows + (parity * RowsOfTile);
        return new TileRows(start, start + DecodeTiles.Keys + TileRows.Padding);
    }
}
