using FusedAttention.Cpu.Memory;
using FusedAttention.Cpu.Planning;

namespace FusedAttention.Cpu.Prefill;

/// <summary>Where things of the prefill kernel lie in a worker's scratch memory. Rows are padded to whole register tiles; columns of O to whole panels of two vectors.</summary>
internal readonly unsafe struct PrefillLayout
{
    public readonly int PaddedRows;
    public readonly int RegisterTiles;
    public readonly int OutputStride;
    public readonly long Bytes;
    public readonly float* Query;
    public readonly float* Output;
    public readonly float* Max;
    public readonly float* Sum;
    public readonly float* Key;
    public readonly float* Value;
    public readonly float* Scores;
    public readonly float* Temporary;
    public readonly nint* KeyRows;
    public readonly nint* ValueRows;

    /// <summary>Scales of the tile's keys and values, where the call has them.</summary>
    public readonly float* KeyScales;
    public readonly float* ValueScales;
    public readonly int* RowQuery;
    public readonly int* RowHead;
    public readonly int* RowStart;
    public readonly int* RowEnd;

    /// <summary>The sums of earlier blocks of keys, where the visible keys are more than one block; null otherwise.</summary>
    public readonly double* LongOutput;
    public readonly double* LongSum;
    public readonly float* LongMax;

    private readonly int* _ranges;

    /// <param name="scratch">The memory; null to learn how much it takes.</param>
    /// <param name="sizes">Sizes of the item.</param>
    /// <param name="tileRows">Rows of a register tile.</param>
    /// <param name="stripRows">Rows of a strip.</param>
    /// <param name="vectorWidth">Floats of a vector.</param>
    /// <param name="queryOverrun">Floats that packing the queries may write beyond them.</param>
    public PrefillLayout(byte* scratch, in PrefillSizes sizes, int tileRows, int stripRows, int vectorWidth, int queryOverrun)
    {
        var memory = new ScratchMemory(scratch);
        int panel = 2 * vectorWidth;
        RegisterTiles = (sizes.Rows + tileRows - 1) / tileRows;
        PaddedRows = RegisterTiles * tileRows;
        OutputStride = (sizes.ValueDim + panel - 1) / panel * panel;
        Query = memory.Take<float>(((long)PaddedRows * sizes.KeyDim) + queryOverrun);
        Output = memory.Take<float>((long)PaddedRows * OutputStride);
        Max = memory.Take<float>(PaddedRows);
        Sum = memory.Take<float>(PaddedRows);
        Key = memory.Take<float>((long)PrefillTiles.Keys * sizes.KeyDim);
        Value = memory.Take<float>((long)PrefillTiles.Keys * OutputStride);
        Scores = memory.Take<float>((long)Math.Min(stripRows, PaddedRows) * PrefillTiles.Keys);
        Temporary = memory.Take<float>(Math.Max(Math.Max(PrefillTiles.Keys, sizes.ValueDim), (long)Math.Max(panel, tileRows) * sizes.KeyDim));
        KeyRows = memory.Take<nint>(PrefillTiles.Keys);
        ValueRows = memory.Take<nint>(PrefillTiles.Keys);
        KeyScales = sizes.HasScales ? memory.Take<float>(PrefillTiles.Keys) : null;
        ValueScales = sizes.HasScales ? memory.Take<float>(PrefillTiles.Keys) : null;
        RowQuery = memory.Take<int>(sizes.Rows);
        RowHead = memory.Take<int>(sizes.Rows);
        RowStart = memory.Take<int>(sizes.Rows);
        RowEnd = memory.Take<int>(sizes.Rows);
        _ranges = memory.Take<int>(4L * RegisterTiles);
        if (sizes.IsLong)
        {
            LongOutput = memory.Take<double>((long)sizes.Rows * OutputStride);
            LongSum = memory.Take<double>(sizes.Rows);
            LongMax = memory.Take<float>(sizes.Rows);
        }

        Bytes = memory.Used;
    }

    /// <summary>For each register tile the first key of the current tile of keys (parity 0 or 1), or of the one after it, that one of its rows may see.</summary>
    public int* Starts(int parity) => _ranges + (2 * parity * RegisterTiles);

    /// <summary>One past the last of these keys; at or below the start where there is none.</summary>
    public int* Stops(int parity) => _ranges + (((2 * parity) + 1) * RegisterTiles);
}
