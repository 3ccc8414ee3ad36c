using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Which lane a lane asks.</summary>
internal enum ShuffleKind
{
    Up,
    Down,
    Butterfly,
    Index,
}

/// <summary>What lanes of a warp tell each other. <see cref="Instruction.Rows"/> has the row of the mask of lanes that take part.</summary>
internal static unsafe class ShuffleOperations
{
    public static readonly Handler Shuffle = new(&RunShuffle), Butterfly = new(&RunButterfly), Any = new(&RunAny), All = new(&RunAll), Uniform = new(&RunUniform), Ballot = new(&RunBallot), ActiveMask = new(&RunActiveMask), Elect = new(&RunElect);

    public static readonly Handler ReduceAdd = new(&RunReduceAdd), ReduceMin = new(&RunReduceMin), ReduceMax = new(&RunReduceMax), ReduceSignedMin = new(&RunReduceSignedMin), ReduceSignedMax = new(&RunReduceSignedMax);

    public static readonly Handler ReduceAnd = new(&RunReduceAnd), ReduceOr = new(&RunReduceOr), ReduceXor = new(&RunReduceXor);

    /// <summary>The lanes that take part: all of them must be there.</summary>
    private static uint Members(Warp warp, Instruction* i, uint mask)
    {
        uint* row = warp.Row(i->Rows[0]);
        uint members = row[BitOperations.TrailingZeroCount(mask)];
        if ((members & ~mask) != 0) throw warp.Fail(i, -1, $"waits for lanes 0x{members:x8}, of which only 0x{mask:x8} come");
        if ((mask & ~members) != 0) throw warp.Fail(i, BitOperations.TrailingZeroCount(mask & ~members), $"is run by a lane that is not among those it names, 0x{members:x8}");
        return members;
    }

    /// <summary>The usual case: all lanes take part, and each asks the lane that differs in constant bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunButterfly(Warp warp, Instruction* i, uint mask)
    {
        if (mask != Lanes.All)
        {
            RunShuffle(warp, i, mask);
            return;
        }

        uint* a = warp.Row(i->A), d = warp.Row(i->D);
        uint* values = stackalloc uint[Lanes.Count];
        ((Vector512<uint>*)values)[0] = Lanes.Half((byte*)a, 0);
        ((Vector512<uint>*)values)[1] = Lanes.Half((byte*)a, 1);
        int by = i->Count;
        for (int lane = 0; lane < Lanes.Count; lane++) d[lane] = values[lane ^ by];
        if (i->E >= 0) warp.Predicates[i->E] = Lanes.All;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunShuffle(Warp warp, Instruction* i, uint mask)
    {
        uint members = Members(warp, i, mask);
        uint* a = warp.Row(i->A), b = warp.Row(i->B), c = warp.Row(i->C), d = warp.Row(i->D);
        uint* values = stackalloc uint[Lanes.Count];
        Buffer.MemoryCopy(a, values, Lanes.Count * sizeof(uint), Lanes.Count * sizeof(uint));
        uint isInside = 0;
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            int by = (int)(b[lane] & 31), clamp = (int)(c[lane] & 31), segment = (int)(c[lane] >> 8 & 31);
            int most = (lane & segment) | (clamp & ~segment & 31), least = lane & segment;
            (int from, bool inside) = (ShuffleKind)i->Number switch
            {
                ShuffleKind.Up => (lane - by, lane - by >= most),
                ShuffleKind.Down => (lane + by, lane + by <= most),
                ShuffleKind.Butterfly => (lane ^ by, (lane ^ by) <= most),
                _ => (least | (by & ~segment), (least | (by & ~segment)) <= most),
            };
            if (!inside) from = lane;
            else isInside |= 1u << lane;
            if ((members >> from & 1) == 0) throw warp.Fail(i, lane, $"asks lane {from}, which takes no part");
            d[lane] = values[from];
        }

        if (i->E >= 0) PredicateOperations.Write(warp, i->E, mask, isInside);
    }

    private static uint Votes(Warp warp, Instruction* i, uint mask)
    {
        Members(warp, i, mask);
        return (warp.Predicates[i->A] ^ (uint)i->Offset) & mask;
    }

    private static void RunAny(Warp warp, Instruction* i, uint mask) => PredicateOperations.Write(warp, i->D, mask, Votes(warp, i, mask) != 0 ? Lanes.All : 0);

    private static void RunAll(Warp warp, Instruction* i, uint mask) => PredicateOperations.Write(warp, i->D, mask, Votes(warp, i, mask) == mask ? Lanes.All : 0);

    private static void RunUniform(Warp warp, Instruction* i, uint mask)
    {
        uint votes = Votes(warp, i, mask);
        PredicateOperations.Write(warp, i->D, mask, votes == 0 || votes == mask ? Lanes.All : 0);
    }

    private static void RunBallot(Warp warp, Instruction* i, uint mask) => Fill(warp, i, mask, Votes(warp, i, mask));

    private static void RunActiveMask(Warp warp, Instruction* i, uint mask) => Fill(warp, i, mask, mask);

    private static void RunElect(Warp warp, Instruction* i, uint mask)
    {
        uint members = Members(warp, i, mask);
        int elected = BitOperations.TrailingZeroCount(members);
        if (i->D >= 0) Fill(warp, i, mask, (uint)elected);
        PredicateOperations.Write(warp, i->E, mask, 1u << elected);
    }

    private static void Reduce(Warp warp, Instruction* i, uint mask, Func<uint, uint, uint> operation)
    {
        Members(warp, i, mask);
        uint* a = warp.Row(i->A);
        int first = BitOperations.TrailingZeroCount(mask);
        uint result = a[first];
        for (int lane = first + 1; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) result = operation(result, a[lane]);
        Fill(warp, i, mask, result);
    }

    private static void RunReduceAdd(Warp warp, Instruction* i, uint mask) => Reduce(warp, i, mask, static (x, y) => x + y);

    private static void RunReduceMin(Warp warp, Instruction* i, uint mask) => Reduce(warp, i, mask, Math.Min);

    private static void RunReduceMax(Warp warp, Instruction* i, uint mask) => Reduce(warp, i, mask, Math.Max);

    private static void RunReduceSignedMin(Warp warp, Instruction* i, uint mask) => Reduce(warp, i, mask, static (x, y) => (uint)Math.Min((int)x, (int)y));

    private static void RunReduceSignedMax(Warp warp, Instruction* i, uint mask) => Reduce(warp, i, mask, static (x, y) => (uint)Math.Max((int)x, (int)y));

    private static void RunReduceAnd(Warp warp, Instruction* i, uint mask) => Reduce(warp, i, mask, static (x, y) => x & y);

    private static void RunReduceOr(Warp warp, Instruction* i, uint mask) => Reduce(warp, i, mask, static (x, y) => x | y);

    private static void RunReduceXor(Warp warp, Instruction* i, uint mask) => Reduce(warp, i, mask, static (x, y) => x ^ y);

    private static void Fill(Warp warp, Instruction* i, uint mask, uint value)
    {
        uint* d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = value;
    }
}
