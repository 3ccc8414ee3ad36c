namespace FusedAttention.Cpu.Rotary;

/// <summary>Cosines and sines of every position, rounded once from double precision.</summary>
/// <remarks>
/// A table of all positions would take 64 MB for 128k tokens and 64 pairs. Here a position is a coarse one plus a fine one of 256, whose turns in double precision are multiplied as complex numbers:
/// 256 KB for the fine ones, 1 KB for every 256 positions that were ever asked for; past 2^20 positions the coarse turn is computed each time, by the same operations. The product costs 3 roundings of 2^-53, where one rounding to float
/// costs 2^-24. No multiply-add is fused, so bits do not depend on the machine.
/// </remarks>
internal sealed unsafe class RotaryAngles
{
    private const int FineBits = 8;
    private const int FinePositions = 1 << FineBits;

    /// <summary>4 MB of turns at most for 64 pairs.</summary>
    private const int KeptCoarse = 4096;

    private readonly double[] _frequencies;
    private readonly double[] _fine;
    private readonly double[]?[] _coarse = new double[KeptCoarse][];

    /// <param name="frequencies">Radians a position, by pair.</param>
    /// <param name="magnitude">What cosines and sines are multiplied with.</param>
    public RotaryAngles(double[] frequencies, double magnitude)
    {
        _frequencies = frequencies;
        _fine = new double[FinePositions * 2 * frequencies.Length];
        for (int position = 0; position < FinePositions; position++)
        {
            Span<double> turn = _fine.AsSpan(position * 2 * frequencies.Length, 2 * frequencies.Length);
            Turn(position, turn);
            foreach (ref double part in turn) part *= magnitude;
        }
    }

    /// <summary>Cosines and sines of some pairs at a position.</summary>
    /// <param name="position">Any; a negative one turns backwards.</param>
    /// <param name="firstPair">The first pair.</param>
    /// <param name="count">How many pairs.</param>
    /// <param name="cosines">Receives <paramref name="count"/> cosines.</param>
    /// <param name="sines">Receives as many sines.</param>
    public void Write(int position, int firstPair, int count, float* cosines, float* sines)
    {
        long distance = Math.Abs((long)position);
        long coarse = distance >> FineBits;
        ReadOnlySpan<double> fine = _fine.AsSpan((int)(distance & (FinePositions - 1)) * 2 * _frequencies.Length, 2 * _frequencies.Length);
        ReadOnlySpan<double> fineCosines = fine.Slice(firstPair, count), fineSines = fine.Slice(_frequencies.Length + firstPair, count);
        if (coarse >= KeptCoarse)
        {
            for (int i = 0; i < count; i++)
            {
                (double sine, double cosine) = Math.SinCos((coarse << FineBits) * _frequencies[firstPair + i]);
                Write(cosine, sine, fineCosines[i], fineSines[i], cosines + i, sines + i);
            }
        }
        else
        {
            ReadOnlySpan<double> turn = Coarse((int)coarse);
            ReadOnlySpan<double> coarseCosines = turn.Slice(firstPair, count), coarseSines = turn.Slice(_frequencies.Length + firstPair, count);
            for (int i = 0; i < count; i++) Write(coarseCosines[i], coarseSines[i], fineCosines[i], fineSines[i], cosines + i, sines + i);
        }

        if (position >= 0) return;
        for (int i = 0; i < count; i++) sines[i] = -sines[i];
    }

    private static void Write(double coarseCosine, double coarseSine, double fineCosine, double fineSine, float* cosine, float* sine)
    {
        *cosine = (float)((coarseCosine * fineCosine) - (coarseSine * fineSine));
        *sine = (float)((coarseSine * fineCosine) + (coarseCosine * fineSine));
    }

    /// <summary>The turns of a coarse position. Threads that make one at the same time make the same.</summary>
    private double[] Coarse(int coarse)
    {
        if (Volatile.Read(ref _coarse[coarse]) is double[] known) return known;
        double[] turn = new double[2 * _frequencies.Length];
        Turn((long)coarse << FineBits, turn);
        Volatile.Write(ref _coarse[coarse], turn);
        return turn;
    }

    private void Turn(long position, Span<double> turn)
    {
        for (int pair = 0; pair < _frequencies.Length; pair++) (turn[_frequencies.Length + pair], turn[pair]) = Math.SinCos(position * _frequencies[pair]);
    }
}
