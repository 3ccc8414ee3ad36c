using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>How a comparison is joined with another predicate.</summary>
internal enum PredicateJoin
{
    None,
    And,
    Or,
    Xor,
}

/// <summary>Predicates: a bit for each lane.</summary>
internal static unsafe class PredicateOperations
{
    public static readonly Handler And = new(&RunAnd), Or = new(&RunOr), Xor = new(&RunXor), Not = new(&RunNot), Move = new(&RunMove), Select = new(&RunSelect), WideSelect = new(&RunWideSelect);

    /// <summary>Stores a comparison's outcome, joined with the predicate C if the instruction says so, and its opposite in E.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Set(Warp warp, Instruction* i, uint mask, uint holds)
    {
        uint opposite = ~holds;
        if (i->Number != (int)PredicateJoin.None)
        {
            uint other = warp.Predicates[i->C] ^ (uint)i->Offset;
            holds = Join((PredicateJoin)i->Number, holds, other);
            opposite = Join((PredicateJoin)i->Number, opposite, other);
        }

        Write(warp, i->D, mask, holds);
        if (i->E >= 0) Write(warp, i->E, mask, opposite);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Write(Warp warp, int predicate, uint mask, uint bits)
    {
        if (predicate >= 0) warp.Predicates[predicate] = (warp.Predicates[predicate] & ~mask) | (bits & mask);
    }

    private static uint Join(PredicateJoin join, uint a, uint b) => join switch
    {
        PredicateJoin.And => a & b,
        PredicateJoin.Or => a | b,
        _ => a ^ b,
    };

    private static void RunAnd(Warp warp, Instruction* i, uint mask) => Write(warp, i->D, mask, warp.Predicates[i->A] & warp.Predicates[i->B]);

    private static void RunOr(Warp warp, Instruction* i, uint mask) => Write(warp, i->D, mask, warp.Predicates[i->A] | warp.Predicates[i->B]);

    private static void RunXor(Warp warp, Instruction* i, uint mask) => Write(warp, i->D, mask, warp.Predicates[i->A] ^ warp.Predicates[i->B]);

    private static void RunNot(Warp warp, Instruction* i, uint mask) => Write(warp, i->D, mask, ~warp.Predicates[i->A]);

    private static void RunMove(Warp warp, Instruction* i, uint mask) => Write(warp, i->D, mask, warp.Predicates[i->A]);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunSelect(Warp warp, Instruction* i, uint mask)
    {
        byte* a = warp.Rows + i->A, b = warp.Rows + i->B;
        uint chosen = warp.Predicates[i->C];
        Lanes.Store(
            warp.Rows + i->D, mask,
            Vector512.ConditionalSelect(Lanes.MaskOf(chosen), Lanes.Half(a, 0), Lanes.Half(b, 0)),
            Vector512.ConditionalSelect(Lanes.MaskOf(chosen >> 16), Lanes.Half(a, 1), Lanes.Half(b, 1)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunWideSelect(Warp warp, Instruction* i, uint mask)
    {
        ulong* a = (ulong*)(warp.Rows + i->A), b = (ulong*)(warp.Rows + i->B), d = (ulong*)(warp.Rows + i->D);
        uint chosen = warp.Predicates[i->C];
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = (chosen >> lane & 1) != 0 ? a[lane] : b[lane];
    }
}
