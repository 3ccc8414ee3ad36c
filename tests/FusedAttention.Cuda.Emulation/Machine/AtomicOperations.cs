using System.Numerics;
using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>What an atomic operation makes of what is there.</summary>
internal enum AtomicKind
{
    Add,
    Min,
    Max,
    SignedMin,
    SignedMax,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Increment,
    AddFloat,
}

/// <summary>Atomic operations, lane by lane. D is the row of what was there, or -1; A that of the address; B and C those of the operands. <see cref="Instruction.Count"/> is the <see cref="Space"/>.</summary>
internal static unsafe class AtomicOperations
{
    public static readonly Handler Atomic = new(&Run), WideAtomic = new(&RunWide);

    private static byte* Place(Warp warp, Instruction* i, int lane, int bytes)
    {
        if ((Space)i->Count == Space.Shared) return warp.Block.Shared.Atomic(warp, i, lane, warp.Row(i->A)[lane] + (uint)i->Offset, bytes);
        ulong address = warp.WideRow(i->A)[lane] + (ulong)i->Offset;
        warp.GlobalRead(i, lane, address, bytes, bytes);
        return warp.GlobalWrite(i, lane, address, bytes);
    }

    private static void Run(Warp warp, Instruction* i, uint mask)
    {
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            ref uint place = ref Unsafe.AsRef<uint>(Place(warp, i, lane, sizeof(uint)));
            uint operand = warp.Row(i->B)[lane], other = i->C < 0 ? 0 : warp.Row(i->C)[lane], before = Volatile.Read(ref place);
            while (true)
            {
                uint found = Interlocked.CompareExchange(ref place, After((AtomicKind)i->Number, before, operand, other), before);
                if (found == before) break;
                before = found;
            }

            if (i->D >= 0) warp.Row(i->D)[lane] = before;
        }
    }

    private static void RunWide(Warp warp, Instruction* i, uint mask)
    {
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            ref ulong place = ref Unsafe.AsRef<ulong>(Place(warp, i, lane, sizeof(ulong)));
            ulong operand = warp.WideRow(i->B)[lane], other = i->C < 0 ? 0 : warp.WideRow(i->C)[lane], before = Volatile.Read(ref place);
            while (true)
            {
                ulong found = Interlocked.CompareExchange(ref place, WideAfter((AtomicKind)i->Number, before, operand, other), before);
                if (found == before) break;
                before = found;
            }

            if (i->D >= 0) warp.WideRow(i->D)[lane] = before;
        }
    }

    private static uint After(AtomicKind kind, uint before, uint operand, uint other) => kind switch
    {
        AtomicKind.Add => before + operand,
        AtomicKind.Min => Math.Min(before, operand),
        AtomicKind.Max => Math.Max(before, operand),
        AtomicKind.SignedMin => (uint)Math.Min((int)before, (int)operand),
        AtomicKind.SignedMax => (uint)Math.Max((int)before, (int)operand),
        AtomicKind.And => before & operand,
        AtomicKind.Or => before | operand,
        AtomicKind.Xor => before ^ operand,
        AtomicKind.Exchange => operand,
        AtomicKind.CompareAndSwap => before == operand ? other : before,
        AtomicKind.Increment => before >= operand ? 0 : before + 1,
        AtomicKind.AddFloat => BitConverter.SingleToUInt32Bits(BitConverter.UInt32BitsToSingle(before) + BitConverter.UInt32BitsToSingle(operand)),
        _ => throw new InvalidOperationException($"{kind} is not known."),
    };

    private static ulong WideAfter(AtomicKind kind, ulong before, ulong operand, ulong other) => kind switch
    {
        AtomicKind.Add => before + operand,
        AtomicKind.Min => Math.Min(before, operand),
        AtomicKind.Max => Math.Max(before, operand),
        AtomicKind.SignedMin => (ulong)Math.Min((long)before, (long)operand),
        AtomicKind.SignedMax => (ulong)Math.Max((long)before, (long)operand),
        AtomicKind.And => before & operand,
        AtomicKind.Or => before | operand,
        AtomicKind.Xor => before ^ operand,
        AtomicKind.Exchange => operand,
        AtomicKind.CompareAndSwap => before == operand ? other : before,
        _ => throw new InvalidOperationException($"{kind} is not known."),
    };
}
