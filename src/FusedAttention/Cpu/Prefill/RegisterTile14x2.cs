using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;

namespace FusedAttention.Cpu.Prefill;
/// <summary>Fourteen rows by two vectors: for machines with 32 vector registers (AVX-512, Arm NEON).</summary>
/// <remarks>
/// 28 accumulators, 2 vectors of B and 1 broadcast of A fill 31 of 32 registers. Each step loads 2 vectors and 14 broadcasts for 28 multiply-adds, so that loads stay
/// well below the multiply-add ports even where a 512-bit load occupies its port for a whole cycle.
/// </remarks>
internal readonly unsafe struct RegisterTile14x2<TS, TV> : IRegisterTile
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    public static int Rows => 14;
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Scores(float* q, float* k, float* s, int dim, bool accumulate)
    {
        TV c0a = TS.Zero, c0b = TS.Zero, c1a = TS.Zero, c1b = TS.Zero, c2a = TS.Zero, c2b = TS.Zero;
        TV c3a = TS.Zero, c3b = TS.Zero, c4a = TS.Zero, c4b = TS.Zero, c5a = TS.Zero, c5b = TS.Zero;
        TV c6a = TS.Zero, c6b = TS.Zero, c7a = TS.Zero, c7b = TS.Zero, c8a = TS.Zero, c8b = TS.Zero;
        TV c9a = TS.Zero, c9b = TS.Zero, c10a = TS.Zero, c10b = TS.Zero, c11a = TS.Zero, c11b = TS.Zero;
        TV c12a = TS.Zero, c12b = TS.Zero, c13a = TS.Zero, c13b = TS.Zero;
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
            TV a6 = TS.Create(q[6]);
            c6a = TS.MultiplyAdd(a6, b0, c6a);
            c6b = TS.MultiplyAdd(a6, b1, c6b);
            TV a7 = TS.Create(q[7]);
            c7a = TS.MultiplyAdd(a7, b0, c7a);
            c7b = TS.MultiplyAdd(a7, b1, c7b);
            TV a8 = TS.Create(q[8]);
            c8a = TS.MultiplyAdd(a8, b0, c8a);
            c8b = TS.MultiplyAdd(a8, b1, c8b);
            TV a9 = TS.Create(q[9]);
            c9a = TS.MultiplyAdd(a9, b0, c9a);
            c9b = TS.MultiplyAdd(a9, b1, c9b);
            TV a10 = TS.Create(q[10]);
            c10a = TS.MultiplyAdd(a10, b0, c10a);
            c10b = TS.MultiplyAdd(a10, b1, c10b);
            TV a11 = TS.Create(q[11]);
            c11a = TS.MultiplyAdd(a11, b0, c11a);
            c11b = TS.MultiplyAdd(a11, b1, c11b);
            TV a12 = TS.Create(q[12]);
            c12a = TS.MultiplyAdd(a12, b0, c12a);
            c12b = TS.MultiplyAdd(a12, b1, c12b);
            TV a13 = TS.Create(q[13]);
            c13a = TS.MultiplyAdd(a13, b0, c13a);
            c13b = TS.MultiplyAdd(a13, b1, c13b);
            q += 14;
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
            c6a = TS.Add(TS.Load(s + (6 * PrefillTiles.Keys)), c6a);
            c6b = TS.Add(TS.Load(s + (6 * PrefillTiles.Keys) + TS.Width), c6b);
            c7a = TS.Add(TS.Load(s + (7 * PrefillTiles.Keys)), c7a);
            c7b = TS.Add(TS.Load(s + (7 * PrefillTiles.Keys) + TS.Width), c7b);
            c8a = TS.Add(TS.Load(s + (8 * PrefillTiles.Keys)), c8a);
            c8b = TS.Add(TS.Load(s + (8 * PrefillTiles.Keys) + TS.Width), c8b);
            c9a = TS.Add(TS.Load(s + (9 * PrefillTiles.Keys)), c9a);
            c9b = TS.Add(TS.Load(s + (9 * PrefillTiles.Keys) + TS.Width), c9b);
            c10a = TS.Add(TS.Load(s + (10 * PrefillTiles.Keys)), c10a);
            c10b = TS.Add(TS.Load(s + (10 * PrefillTiles.Keys) + TS.Width), c10b);
            c11a = TS.Add(TS.Load(s + (11 * PrefillTiles.Keys)), c11a);
            c11b = TS.Add(TS.Load(s + (11 * PrefillTiles.Keys) + TS.Width), c11b);
            c12a = TS.Add(TS.Load(s + (12 * PrefillTiles.Keys)), c12a);
            c12b = TS.Add(TS.Load(s + (12 * PrefillTiles.Keys) + TS.Width), c12b);
            c13a = TS.Add(TS.Load(s + (13 * PrefillTiles.Keys)), c13a);
            c13b = TS.Add(TS.Load(s + (13 * PrefillTiles.Keys) + TS.Width), c13b);
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
        TS.Store(s + (6 * PrefillTiles.Keys), c6a);
        TS.Store(s + (6 * PrefillTiles.Keys) + TS.Width, c6b);
        TS.Store(s + (7 * PrefillTiles.Keys), c7a);
        TS.Store(s + (7 * PrefillTiles.Keys) + TS.Width, c7b);
        TS.Store(s + (8 * PrefillTiles.Keys), c8a);
        TS.Store(s + (8 * PrefillTiles.Keys) + TS.Width, c8b);
        TS.Store(s + (9 * PrefillTiles.Keys), c9a);
        TS.Store(s + (9 * PrefillTiles.Keys) + TS.Width, c9b);
        TS.Store(s + (10 * PrefillTiles.Keys), c10a);
        TS.Store(s + (10 * PrefillTiles.Keys) + TS.Width, c10b);
        TS.Store(s + (11 * PrefillTiles.Keys), c11a);
        TS.Store(s + (11 * PrefillTiles.Keys) + TS.Width, c11b);
        TS.Store(s + (12 * PrefillTiles.Keys), c12a);
        TS.Store(s + (12 * PrefillTiles.Keys) + TS.Width, c12b);
        TS.Store(s + (13 * PrefillTiles.Keys), c13a);
        TS.Store(s + (13 * PrefillTiles.Keys) + TS.Width, c13b);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Accumulate(float* p, float* v, float* o, nint outputStride, int keys)
    {
        TV c0a = TS.Zero, c0b = TS.Zero, c1a = TS.Zero, c1b = TS.Zero, c2a = TS.Zero, c2b = TS.Zero;
        TV c3a = TS.Zero, c3b = TS.Zero, c4a = TS.Zero, c4b = TS.Zero, c5a = TS.Zero, c5b = TS.Zero;
        TV c6a = TS.Zero, c6b = TS.Zero, c7a = TS.Zero, c7b = TS.Zero, c8a = TS.Zero, c8b = TS.Zero;
        TV c9a = TS.Zero, c9b = TS.Zero, c10a = TS.Zero, c10b = TS.Zero, c11a = TS.Zero, c11b = TS.Zero;
        TV c12a = TS.Zero, c12b = TS.Zero, c13a = TS.Zero, c13b = TS.Zero;
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
            TV a6 = TS.Create(p[6 * PrefillTiles.Keys]);
            c6a = TS.MultiplyAdd(a6, b0, c6a);
            c6b = TS.MultiplyAdd(a6, b1, c6b);
            TV a7 = TS.Create(p[7 * PrefillTiles.Keys]);
            c7a = TS.MultiplyAdd(a7, b0, c7a);
            c7b = TS.MultiplyAdd(a7, b1, c7b);
            TV a8 = TS.Create(p[8 * PrefillTiles.Keys]);
            c8a = TS.MultiplyAdd(a8, b0, c8a);
            c8b = TS.MultiplyAdd(a8, b1, c8b);
            TV a9 = TS.Create(p[9 * PrefillTiles.Keys]);
            c9a = TS.MultiplyAdd(a9, b0, c9a);
            c9b = TS.MultiplyAdd(a9, b1, c9b);
            TV a10 = TS.Create(p[10 * PrefillTiles.Keys]);
            c10a = TS.MultiplyAdd(a10, b0, c10a);
            c10b = TS.MultiplyAdd(a10, b1, c10b);
            TV a11 = TS.Create(p[11 * PrefillTiles.Keys]);
            c11a = TS.MultiplyAdd(a11, b0, c11a);
            c11b = TS.MultiplyAdd(a11, b1, c11b);
            TV a12 = TS.Create(p[12 * PrefillTiles.Keys]);
            c12a = TS.MultiplyAdd(a12, b0, c12a);
            c12b = TS.MultiplyAdd(a12, b1, c12b);
            TV a13 = TS.Create(p[13 * PrefillTiles.Keys]);
            c13a = TS.MultiplyAdd(a13, b0, c13a);
            c13b = TS.MultiplyAdd(a13, b1, c13b);
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
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c6a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c6b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c7a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c7b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c8a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c8b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c9a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c9b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c10a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c10b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c11a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c11b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c12a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c12b));
        row += outputStride;
        TS.Store(row, TS.Add(TS.Load(row), c13a));
        TS.Store(row + TS.Width, TS.Add(TS.Load(row + TS.Width), c13b));
    }
}
