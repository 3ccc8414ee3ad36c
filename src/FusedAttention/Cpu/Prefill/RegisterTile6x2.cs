using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;

namespace FusedAttention.Cpu.Prefill;
/// <summary>Six rows by two vectors: for machines with 16 vector registers.</summary>
/// <remarks>
/// 12 accumulators, 2 vectors of B and 1 broadcast of A fill 15 of 16 registers. 12 independent chains cover 2 multiply-add ports x 4 cycles of latency (8) with room.
/// Each step loads 2 vectors and 6 broadcasts for 12 multiply-adds: 8 loads in the 6 cycles that they take, which two load ports manage.
/// </remarks>
internal readonly unsafe struct RegisterTile6x2<TS, TV> : IRegisterTile
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    public static int Rows => 6;
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Scores(float* q, float* k, float* s, int dim, bool accumulate)
    {
        TV c0a = TS.Zero, c0b = TS.Zero, c1a = TS.Zero, c1b = TS.Zero, c2a = TS.Zero, c2b = TS.Zero, c3a = TS.Zero, c3b = TS.Zero, c4a = TS.Zero, c4b = TS.Zero, c5a = TS.Zero, c5b = TS.Zero;
        for (int d = 0; d < dim; d++)
        {
            TV b0 = TS.Load(k);
            TV b1 = TS.Load(k + TS.Width);
            TV a0 = TS.Create(q[0]);
            c0a = TS.MultiplyAdd(a0, b0, c0a);
            c0b = TS.MultiplyAdd(a0, b1, c0b);
            TV a1 = TS.Create(q[1]);
            c1a = TS.MultiplyAdd(a1, b0, c1a);
            c1b = TS.MultiplyAdd(a1, b1, c1b);
            TV a2 = TS.Create(q[2]);
            c2a = TS.MultiplyAdd(a2, b0, c2a);
            c2b = TS.MultiplyAdd(a2, b1, c2b);
            TV a3 = TS.Create(q[3]);
            c3a = TS.MultiplyAdd(a3, b0, c3a);
            c3b = TS.MultiplyAdd(a3, b1, c3b);
            TV a4 = TS.Create(q[4]);
            c4a = TS.MultiplyAdd(a4, b0, c4a);
            c4b = TS.MultiplyAdd(a4, b1, c4b);
            TV a5 = TS.Create(q[5]);
            c5a = TS.MultiplyAdd(a5, b0, c5a);
            c5b = TS.MultiplyAdd(a5, b1, c5b);
            q += 6;
            k += 2 * TS.Width;
        }

        if (accumulate)
        {
            c0a = TS.Add(TS.Load(s), c0a);
            c0b = TS.Add(TS.Load(s + TS.Width), c0b);
            c1a = TS.Add(TS.Load(s + PrefillTiles.Keys), c1a);
            c1b = TS.Add(TS.Load(s + PrefillTiles.Keys + TS.Width), c1b);
            c2a = TS.Add(TS.Load(s + (2 * PrefillTiles.Keys)), c2a);
            c2b = TS.Add(TS.Load(s + (2 * PrefillTiles.Keys) + TS.Width), c2b);
            c3a = TS.Add(TS.Load(s + (3 * PrefillTiles.Keys)), c3a);
            c3b = TS.Add(TS.Load(s + (3 * PrefillTiles.Keys) + TS.Width), c3b);
            c4a = TS.Add(TS.Load(s + (4 * PrefillTiles.Keys)), c4a);
            c4b = TS.Add(TS.Load(s + (4 * PrefillTiles.Keys) + TS.Width), c4b);
            c5a = TS.Add(TS.Load(s + (5 * PrefillTiles.Keys)), c5a);
            c5b = TS.Add(TS.Load(s + (5 * PrefillTiles.Keys) + TS.Width), c5b);
        }

        TS.Store(s, c0a);
        TS.Store(s + TS.Width, c0b);
        TS.Store(s + PrefillTiles.Keys, c1a);
        TS.Store(s + PrefillTiles.Keys + TS.Width, c1b);
        TS.Store(s + (2 * PrefillTiles.Keys), c2a);
        TS.Store(s + (2 * PrefillTiles.Keys) + TS.Width, c2b);
        TS.Store(s + (3 * PrefillTiles.Keys), c3a);
        TS.Store(s + (3 * PrefillTiles.Keys) + TS.Width, c3b);
        TS.Store(s + (4 * PrefillTiles.Keys), c4a);
        TS.Store(s + (4 * PrefillTiles.Keys) + TS.Width, c4b);
        TS.Store(s + (5 * PrefillTiles.Keys), c5a);
        TS.Store(s + (5 * PrefillTiles.Keys) + TS.Width, c5b);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Accumulate(float* p, float* v, float* o, nint outputStride, int keys)
    {
        TV c0a = TS.Zero, c0b = TS.Zero, c1a = TS.Zero, c1b = TS.Zero, c2a = TS.Zero, c2b = TS.Zero, c3a = TS.Zero, c3b = TS.Zero, c4a = TS.Zero, c4b = TS.Zero, c5a = TS.Zero, c5b = TS.Zero;
        for (int j = 0; j < keys; j++)
        {
            TV b0 = TS.Load(v);
            TV b1 = TS.Load(v + TS.Width);
            TV a0 = TS.Create(p[0]);
            c0a = TS.MultiplyAdd(a0, b0, c0a);
            c0b = TS.MultiplyAdd(a0, b1, c0b);
            TV a1 = TS.Create(p[PrefillTiles.Keys]);
            c1a = TS.MultiplyAdd(a1, b0, c1a);
            c1b = TS.MultiplyAdd(a1, b1, c1b);
            TV a2 = TS.Create(p[2 * PrefillTiles.Keys]);
            c2a = TS.MultiplyAdd(a2, b0, c2a);
            c2b = TS.MultiplyAdd(a2, b1, c2b);
            TV a3 = TS.Create(p[3 * PrefillTiles.Keys]);
            c3a = TS.MultiplyAdd(a3, b0, c3a);
            c3b = TS.MultiplyAdd(a3, b1, c3b);
            TV a4 = TS.Create(p[4 * PrefillTiles.Keys]);
            c4a = TS.MultiplyAdd(a4, b0, c4a);
            c4b = TS.MultiplyAdd(a4, b1, c4b);
            TV a5 = TS.Create(p[5 * PrefillTiles.Keys]);
            c5a = TS.MultiplyAdd(a5, b0, c5a);
            c5b = TS.MultiplyAdd(a5, b1, c5b);
            p++;
            v += 2 * TS.Width;
        }

        float* row = o;
        TS.Store(row, TS.Add(TS.Load(row), c0a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c0b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c1a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c1b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c2a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c2b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c3a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c3b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c4a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c4b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c5a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c5b));
    }
}
