using System.Numerics;
using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>A state space.</summary>
internal enum Space
{
    Any,
    Global,
    Shared,
    Parameter,
}

/// <summary>
/// Loads, stores, and copies in the background. <see cref="Instruction.A"/> is the row of the address (-1: <see cref="Instruction.Offset"/> is all of it), <see cref="Instruction.Rows"/> has the rows of the elements;
/// <see cref="Instruction.Number"/> is 1 where elements are widened with their sign.
/// </summary>
internal static unsafe class MemoryOperations
{
    public static readonly Handler LoadGlobal = new(&Load<GlobalSpace>), LoadShared = new(&Load<SharedSpace>), LoadAny = new(&Load<AnySpace>), LoadParameter = new(&RunLoadParameter);

    public static readonly Handler StoreGlobal = new(&Store<GlobalSpace>), StoreShared = new(&Store<SharedSpace>), StoreAny = new(&Store<AnySpace>);

    public static readonly Handler CopyAsync = new(&RunCopyAsync), CommitCopies = new(&RunCommitCopies), WaitForCopies = new(&RunWaitForCopies), WaitForAllCopies = new(&RunWaitForAllCopies);

    private interface ISpace
    {
        static abstract byte* Read(Warp warp, Instruction* i, int lane, ulong address, int bytes);

        static abstract byte* Write(Warp warp, Instruction* i, int lane, ulong address, int bytes);

        /// <summary>Whether addresses have 64 bits.</summary>
        static abstract bool IsWide { get; }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Load<TSpace>(Warp warp, Instruction* i, uint mask)
        where TSpace : struct, ISpace
    {
        int bytes = i->Bytes, count = i->Count;
        ulong* addresses = stackalloc ulong[Lanes.Count];
        Addresses<TSpace>(warp, i, addresses);
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            byte* from = TSpace.Read(warp, i, lane, addresses[lane], bytes * count);
            for (int n = 0; n < count; n++, from += bytes)
            {
                byte* row = warp.Rows + i->Rows[n];
                switch (bytes)
                {
                    case 4: ((uint*)row)[lane] = *(uint*)from; break;
                    case 8: ((ulong*)row)[lane] = *(ulong*)from; break;
                    case 2: ((uint*)row)[lane] = i->Number == 1 ? (uint)*(short*)from : *(ushort*)from; break;
                    default: ((uint*)row)[lane] = i->Number == 1 ? (uint)*(sbyte*)from : *from; break;
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Store<TSpace>(Warp warp, Instruction* i, uint mask)
        where TSpace : struct, ISpace
    {
        int bytes = i->Bytes, count = i->Count;
        ulong* addresses = stackalloc ulong[Lanes.Count];
        Addresses<TSpace>(warp, i, addresses);
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            byte* to = TSpace.Write(warp, i, lane, addresses[lane], bytes * count);
            for (int n = 0; n < count; n++, to += bytes)
            {
                byte* row = warp.Rows + i->Rows[n];
                switch (bytes)
                {
                    case 4: *(uint*)to = ((uint*)row)[lane]; break;
                    case 8: *(ulong*)to = ((ulong*)row)[lane]; break;
                    case 2: *(ushort*)to = (ushort)((uint*)row)[lane]; break;
                    default: *to = (byte)((uint*)row)[lane]; break;
                }
            }
        }
    }

    /// <summary>The address of each lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Addresses<TSpace>(Warp warp, Instruction* i, ulong* addresses)
        where TSpace : struct, ISpace
    {
        long offset = i->Offset;
        if (i->A < 0) new Span<ulong>(addresses, Lanes.Count).Fill((ulong)offset);
        else if (TSpace.IsWide) for (int lane = 0; lane < Lanes.Count; lane++) addresses[lane] = warp.WideRow(i->A)[lane] + (ulong)offset;
        else for (int lane = 0; lane < Lanes.Count; lane++) addresses[lane] = warp.Row(i->A)[lane] + (uint)offset;
    }

    private static void RunLoadParameter(Warp warp, Instruction* i, uint mask)
    {
        int bytes = i->Bytes;
        byte* from = warp.Parameter(i, -1, i->Offset, bytes * i->Count);
        for (int n = 0; n < i->Count; n++, from += bytes)
        {
            byte* row = warp.Rows + i->Rows[n];
            for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
            {
                int lane = BitOperations.TrailingZeroCount(lanes);
                if (bytes == 8) ((ulong*)row)[lane] = *(ulong*)from;
                else ((uint*)row)[lane] = bytes == 4 ? *(uint*)from : bytes == 2 ? (i->Number == 1 ? (uint)*(short*)from : *(ushort*)from) : i->Number == 1 ? (uint)*(sbyte*)from : *from;
            }
        }
    }

    /// <summary>To a row of shared addresses A, from one of global addresses B (offsets in Offset and Number), as many bytes as Bytes; of which C are read, if it is not -1.</summary>
    private static void RunCopyAsync(Warp warp, Instruction* i, uint mask)
    {
        uint* to = warp.Row(i->A);
        ulong* from = warp.WideRow(i->B);
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            int taken = i->C < 0 ? i->Bytes : (int)warp.Row(i->C)[lane];
            if ((uint)taken > (uint)i->Bytes) throw warp.Fail(i, lane, $"takes {taken} of {i->Bytes} bytes");
            warp.BeginCopy(i, lane, to[lane] + (uint)i->Offset, i->Bytes, from[lane] + (ulong)(long)i->Number, taken);
        }
    }

    private static void RunCommitCopies(Warp warp, Instruction* i, uint mask)
    {
        warp.AssertTogether(i, mask);
        warp.CommitCopies();
    }

    private static void RunWaitForCopies(Warp warp, Instruction* i, uint mask)
    {
        warp.AssertTogether(i, mask);
        warp.WaitForCopies(i->Number);
    }

    private static void RunWaitForAllCopies(Warp warp, Instruction* i, uint mask)
    {
        warp.AssertTogether(i, mask);
        warp.WaitForAllCopies();
    }

    private readonly struct GlobalSpace : ISpace
    {
        public static bool IsWide => true;

        public static byte* Read(Warp warp, Instruction* i, int lane, ulong address, int bytes) => warp.GlobalRead(i, lane, address, bytes, bytes);

        public static byte* Write(Warp warp, Instruction* i, int lane, ulong address, int bytes) => warp.GlobalWrite(i, lane, address, bytes);
    }

    private readonly struct SharedSpace : ISpace
    {
        public static bool IsWide => false;

        public static byte* Read(Warp warp, Instruction* i, int lane, ulong address, int bytes) => warp.Block.Shared.Read(warp, i, lane, (uint)address, bytes);

        public static byte* Write(Warp warp, Instruction* i, int lane, ulong address, int bytes) => warp.Block.Shared.Write(warp, i, lane, (uint)address, bytes);
    }

    private readonly struct AnySpace : ISpace
    {
        public static bool IsWide => true;

        public static byte* Read(Warp warp, Instruction* i, int lane, ulong address, int bytes) => warp.AnyRead(i, lane, address, bytes);

        public static byte* Write(Warp warp, Instruction* i, int lane, ulong address, int bytes) => warp.AnyWrite(i, lane, address, bytes);
    }
}
