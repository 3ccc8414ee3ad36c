using System.Numerics;
using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <summary>
/// The steps of the law as passes over one row of scores of one tile, that sits in the first-level cache: vectors [first, end) are processed, keys [start, stop) of them are in range. The first pass that
/// runs takes the scale along.
/// </summary>
internal unsafe ref struct ScorePasses<TS, TV>(
    float* s, int first, int end, int start, int stop, in ScoreUnits units, in ScoreRowContext row, float* temporary) : IScoreSteps
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    private readonly ref readonly ScoreUnits _units = ref units;
    private readonly ref readonly ScoreRowContext _row = ref row;
    private float _scale = 1;

    public void Scale() => _scale = _units.ScaleOfPasses;

    public void SoftCap()
    {
        Cap(s, first, end, TakeScale(), _units.SoftCap);
    }

    public void Bias()
    {
        float scale = TakeScale();
        switch (_row.BiasType)
        {
            case AttentionElementType.Float32: AddBias<Float32Element>(s, start, stop, scale, _row.Bias, temporary); break;
            case AttentionElementType.Float16: AddBias<Float16Element>(s, start, stop, scale, _row.Bias, temporary); break;
            case AttentionElementType.BFloat16: AddBias<BFloat16Element>(s, start, stop, scale, _row.Bias, temporary); break;
            default: throw ElementTypes.Unknown(_row.BiasType);
        }
    }

    public void Alibi()
    {
        if (_row.Slope != 0) SubtractAlibi(s, first, end, TakeScale(), _row.Slope, _row.RelativePosition);
    }

    public void Function()
    {
        nint before = first * TS.Width;
        FunctionPlace* at = _row.Functions;
        _units.ScoreFunction!.Apply(at->Row, s + before, at->Tile + before, end - first, TakeScale());
        if (at->Excluded != null) NoteExcluded(at->Excluded);
    }

    public readonly void Mask() => ApplyMask(s, start, stop, _row.Mask);

    public readonly void MaskFunction()
    {
        nint before = first * TS.Width;
        FunctionPlace* at = _row.Functions;
        _units.MaskFunction!.Apply(at->Row, s + before, at->Tile + before, end - first);
    }

    /// <summary>Applies the scale if no step has taken it along.</summary>
    public void Finish()
    {
        float scale = TakeScale();
        if (scale != 1) Multiply(s, first, end, scale);
    }

    /// <summary>Tells which keys the function excludes, where their values must not be looked at: the weight alone does not tell, as that of a seen key may be 0 too.</summary>
    private readonly void NoteExcluded(bool* excluded)
    {
        for (int j = start; j < stop; j++) excluded[j] = float.IsNegativeInfinity(s[j]);
    }

    private float TakeScale()
    {
        float scale = _scale;
        _scale = 1;
        return scale;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply(float* s, int first, int end, float scale)
    {
        TV factor = TS.Create(scale);
        for (int v = first; v < end; v++) TS.Store(s + (v * TS.Width), TS.Multiply(TS.Load(s + (v * TS.Width)), factor));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Cap(float* s, int first, int end, float scale, float cap)
    {
        TV inner = TS.Create(scale / cap);
        TV outer = TS.Create(cap);
        for (int v = first; v < end; v++)
        {
            float* at = s + (v * TS.Width);
            TS.Store(at, TS.Multiply(outer, Elementary<TS, TV>.Tanh(TS.Multiply(TS.Load(at), inner))));
        }
    }

    /// <summary>s = s * scale - slope * |p - j|. Distances are exact up to 2^24.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SubtractAlibi(float* s, int first, int end, float scale, float slope, float relativePosition)
    {
        TV multiplier = TS.Create(scale);
        TV factor = TS.Create(-slope);
        TV distance = TS.Subtract(TS.Create(relativePosition - (first * TS.Width)), TS.Iota);
        TV step = TS.Create(TS.Width);
        for (int v = first; v < end; v++)
        {
            float* at = s + (v * TS.Width);
            TS.Store(at, TS.MultiplyAdd(TS.Abs(distance), factor, TS.Multiply(TS.Load(at), multiplier)));
            distance = TS.Subtract(distance, step);
        }
    }

    /// <summary>
    /// s = s * scale + bias for keys [start, stop), and negative infinity where the bias is: even for a NaN score, since the key is excluded. Exactly these keys' biases are
    /// read: whole vectors where they are, and the first and last ones through <paramref name="temporary"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddBias<TE>(float* s, int start, int stop, float scale, byte* bias, float* temporary)
        where TE : struct, IElement
    {
        TV multiplier = TS.Create(scale);
        TV excluded = TS.Create(float.NegativeInfinity);
        for (int j = start & -TS.Width; j < stop; j += TS.Width)
        {
            TV b;
            if (j >= start && j + TS.Width <= stop)
            {
                b = TE.Load<TS, TV>(bias, j);
            }
            else
            {
                for (int i = 0; i < TS.Width; i++) temporary[i] = j + i >= start && j + i < stop ? TE.LoadOne(bias, j + i) : 0;
                b = TS.Load(temporary);
            }

            TS.Store(s + j, TS.Select(TS.Equal(b, excluded), excluded, TS.MultiplyAdd(TS.Load(s + j), multiplier, b)));
        }
    }

    /// <summary>Negative infinity where the mask is false. Reads exactly the mask of keys [start, stop).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ApplyMask(float* s, int start, int stop, byte* mask)
    {
        TV excluded = TS.Create(float.NegativeInfinity);
        int j = start;

        // Most masks that hide something hide it in one place: where they hide nothing, scores are not touched: one comparison of as many keys as a vector has bytes.
        for (; j + Vector<byte>.Count <= stop; j += Vector<byte>.Count)
        {
            if (!Vector.EqualsAny(Vector.Load(mask + j), Vector<byte>.Zero)) continue;
            for (int i = j; i < j + Vector<byte>.Count; i += TS.Width) TS.Store(s + i, TS.Select(TS.LoadMask(mask + i), TS.Load(s + i), excluded));
        }

        for (; j + TS.Width <= stop; j += TS.Width) TS.Store(s + j, TS.Select(TS.LoadMask(mask + j), TS.Load(s + j), excluded));
        for (; j < stop; j++)
        {
            if (mask[j] == 0) s[j] = float.NegativeInfinity;
        }
    }
}
