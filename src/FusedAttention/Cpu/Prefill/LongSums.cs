using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;

namespace FusedAttention.Cpu.Prefill;

/// <summary>
/// Sums over very many keys. One running 32-bit sum over 4 million equal scores was wrong by 5e-6, four times what the arithmetic of a row allows: so keys are taken in blocks of
/// <see cref="PrefillTiles.LongKeys"/>, whose m, l and O are combined in double precision, in the order of the blocks.
/// </summary>
/// <remarks>A row with keys in one block only comes out as it went in, bit by bit, wherever the keys of its neighbours or its own hidden ones end.</remarks>
internal static unsafe class LongSums
{
    public static void Start(in PrefillLayout at, int rows)
    {
        if (at.LongOutput != null) new Span<float>(at.LongMax, rows).Fill(float.NegativeInfinity);
    }

    /// <summary>Takes the rows' state over into the long sums and clears it.</summary>
    /// <param name="at">Where things are.</param>
    /// <param name="rows">How many rows.</param>
    /// <param name="units">What the stored scores stand for.</param>
    /// <param name="second">Another sum of each row, of the same weights; null for none.</param>
    /// <param name="longSecond">Those of earlier blocks.</param>
    public static void Add(in PrefillLayout at, int rows, in ScoreUnits units, float* second = null, double* longSecond = null)
    {
        for (int r = 0; r < rows; r++)
        {
            if (float.IsNegativeInfinity(at.Max[r])) continue;     // saw nothing in this block
            Combine(at, r, units, second, longSecond);
            new Span<float>(at.Output + ((nint)r * at.OutputStride), at.OutputStride).Clear();
            at.Max[r] = float.NegativeInfinity;
            if (!float.IsNaN(at.Sum[r])) at.Sum[r] = 0;
            if (second != null) second[r] = 0;
        }
    }

    /// <summary>Gives the rows the state of all blocks together.</summary>
    /// <inheritdoc cref="Add" path="/param"/>
    public static void Finish(in PrefillLayout at, int rows, in ScoreUnits units, float* second = null, double* longSecond = null)
    {
        if (at.LongOutput == null) return;
        for (int r = 0; r < rows; r++)
        {
            if (float.IsNegativeInfinity(at.LongMax[r])) continue;     // one block at most
            if (!float.IsNegativeInfinity(at.Max[r])) Combine(at, r, units, second, longSecond);
            double* sums = at.LongOutput + ((nint)r * at.OutputStride);
            float* output = at.Output + ((nint)r * at.OutputStride);
            for (int d = 0; d < at.OutputStride; d++) output[d] = (float)sums[d];
            at.Max[r] = at.LongMax[r];
            if (!float.IsNaN(at.Sum[r])) at.Sum[r] = (float)at.LongSum[r];
            if (second != null) second[r] = (float)longSecond[r];
        }
    }

    private static void Combine(in PrefillLayout at, int row, in ScoreUnits units, float* second, double* longSecond)
    {
        float* output = at.Output + ((nint)row * at.OutputStride);
        double* sums = at.LongOutput + ((nint)row * at.OutputStride);
        if (float.IsNegativeInfinity(at.LongMax[row]))
        {
            at.LongMax[row] = at.Max[row];
            at.LongSum[row] = at.Sum[row];
            if (second != null) longSecond[row] = second[row];
            for (int d = 0; d < at.OutputStride; d++) sums[d] = output[d];
            return;
        }

        float max = Math.Max(at.LongMax[row], at.Max[row]);
        double before = Math.Pow(2, ((double)at.LongMax[row] - max) * units.Factor);
        double now = Math.Pow(2, ((double)at.Max[row] - max) * units.Factor);
        at.LongMax[row] = max;
        at.LongSum[row] = (at.LongSum[row] * before) + (at.Sum[row] * now);
        if (second != null) longSecond[row] = (longSecond[row] * before) + (second[row] * now);
        for (int d = 0; d < at.OutputStride; d++) sums[d] = (sums[d] * before) + (output[d] * now);
    }
}
