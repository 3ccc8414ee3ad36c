using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Why a warp has stopped.</summary>
internal enum WarpState
{
    /// <summary>It has not; or its turn is over.</summary>
    Running,

    /// <summary>It waits at a barrier that has a number.</summary>
    AtBarrier,

    /// <summary>It asked whether something has happened which has not: it will ask again.</summary>
    Polling,

    /// <summary>All of its lanes have ended.</summary>
    Ended,
}

/// <summary>
/// 32 lanes that run together. Where they part, the ones at the earlier instruction run until they come to where the others are: in text whose branches only leave blocks forwards and repeat loops backwards,
/// that is where their paths meet.
/// </summary>
internal sealed unsafe partial class Warp : Agent, IDisposable
{
    private readonly (int At, uint Lanes)[] _waiting = new (int, uint)[Machine.Lanes.Count + 1];
    private int _waitingCount;
    private int _nextWaiting = int.MaxValue;

    public Warp(KernelProgram program, BlockState block, int number)
        : base(number)
    {
        (Program, Block) = (program, block);
        Rows = (byte*)NativeMemory.AlignedAlloc((nuint)program.RowBytes + 64, 64);
        Predicates = (uint*)NativeMemory.AlignedAlloc((nuint)program.Registers.Predicates * sizeof(uint), 64);
        Recent = new Allocation[program.Length];
        NativeMemory.Fill(Rows, (nuint)program.Registers.Bytes, 0xFF);
        NativeMemory.Clear(Predicates, (nuint)program.Registers.Predicates * sizeof(uint));
        program.Constants.CopyTo(new Span<byte>(Rows + program.Registers.Bytes, program.Constants.Length));
        Predicates[0] = Machine.Lanes.All;
    }

    public KernelProgram Program { get; }

    public BlockState Block { get; }

    /// <summary>Registers and constants.</summary>
    public byte* Rows { get; }

    public uint* Predicates { get; }

    /// <summary>Lanes that have not ended.</summary>
    public uint Live { get; private set; }

    /// <summary>Lanes that are at the current instruction.</summary>
    public uint Active { get; private set; }

    /// <summary>The next instruction; the current one's branch changes it.</summary>
    public int Next { get; private set; }

    public WarpState State { get; private set; }

    /// <summary>The instruction that waits at a barrier.</summary>
    public Instruction* BarrierInstruction { get; set; }

    /// <summary>The barrier that is waited for.</summary>
    public int BarrierNumber { get; private set; }

    /// <summary>The allocation that each instruction has touched last.</summary>
    public Allocation?[] Recent { get; }

    /// <summary>All instructions so far.</summary>
    public long Executed { get; private set; }

    public uint* Row(int offset) => (uint*)(Rows + offset);

    public ulong* WideRow(int offset) => (ulong*)(Rows + offset);

    /// <summary>At the beginning of a block: registers that may be read before they are written hold NaN.</summary>
    public void Begin(uint clock, int threads)
    {
        base.Begin(clock);
        foreach ((_, int offset, int bytes) in Program.Registers.Unwritten) NativeMemory.Fill(Rows + offset, (nuint)bytes, 0xFF);
        foreach (int predicate in Program.Registers.UnwrittenPredicates) Predicates[predicate] = 0;
        Live = Active = threads >= Machine.Lanes.Count ? Machine.Lanes.All : (1u << threads) - 1;
        (Next, State, _waitingCount, _nextWaiting, Executed) = (0, WarpState.Running, 0, int.MaxValue, 0);
        BeginCopies();
        BeginStores();
        BeginProducts();
    }

    /// <summary>Runs until something stops it, or it has had so many instructions.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public WarpState Run(long most)
    {
        if (State is WarpState.Ended or WarpState.AtBarrier) return State;
        State = WarpState.Running;
        Instruction* code = Program.Code;
        uint* predicates = Predicates;
        long left = most;
        while (State == WarpState.Running && --left >= 0)
        {
            if (Next >= _nextWaiting) Meet();
            Instruction* i = code + Next;
            Next++;
            uint mask = Active & (predicates[i->Guard] ^ i->GuardFlip);
            if (mask != 0) i->Run(this, i, mask);
        }

        Executed += most - Math.Max(left, 0);
        return State;
    }

    /// <summary>The lanes of a mask go elsewhere.</summary>
    public void Branch(uint mask, int target)
    {
        if (mask == Active)
        {
            Next = target;
            return;
        }

        (int at, uint lanes) = target < Next ? (Next, Active & ~mask) : (target, mask);
        Active &= ~lanes;
        Next = Math.Min(target, Next);
        Wait(at, lanes);
    }

    /// <summary>The lanes of a mask have ended.</summary>
    public void End(uint mask)
    {
        Live &= ~mask;
        Active &= ~mask;
        if (Active != 0) return;
        if (_waitingCount > 0)
        {
            Resume();
            return;
        }

        AssertNothingUnderWay();
        State = WarpState.Ended;
    }

    /// <summary>Stops at a barrier.</summary>
    public void WaitAt(int barrier) => (State, BarrierNumber) = (WarpState.AtBarrier, barrier);

    /// <summary>The barrier is complete, and has gathered something for those who asked.</summary>
    public void Continue(NamedBarrier barrier)
    {
        State = WarpState.Running;
        BarrierOperations.Take(this, BarrierInstruction, barrier);
    }

    /// <summary>Ends its turn: it has asked for something that has not happened.</summary>
    public void Poll() => State = WarpState.Polling;

    /// <summary>Fails unless all lanes that have not ended are at the instruction.</summary>
    public void AssertTogether(Instruction* i, uint mask)
    {
        if (mask != Live) throw Fail(i, -1, $"is one that all lanes run together, and only those of 0x{mask:x8} do, of 0x{Live:x8} that have not ended");
    }

    public override CudaEmulationException Fail(Instruction* i, int lane, string what)
    {
        (int x, int y, int z) = Block.Index;
        string thread = lane < 0 ? "" : $", lane {lane}";
        return new($"{Program.Label}: {Program.Describe(i->Index)} {what}. Block ({x}, {y}, {z}), warp {Number}{thread}.");
    }

    /// <summary>Where it stands, for the report of an endless wait.</summary>
    public override string ToString()
    {
        string where = Program.Describe(Math.Max(0, Next - 1));
        return State switch
        {
            WarpState.Ended => $"warp {Number} has ended",
            WarpState.AtBarrier => $"warp {Number} waits at barrier {BarrierNumber} ({where})",
            WarpState.Polling => $"warp {Number} asks again and again ({where})",
            _ => $"warp {Number} runs ({where})",
        };
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(Rows);
        NativeMemory.AlignedFree(Predicates);
    }

    /// <summary>Lanes come to an instruction where others wait, or have gone past one: then those run first.</summary>
    private void Meet()
    {
        while (_waitingCount > 0 && Next >= _nextWaiting)
        {
            if (Next == _nextWaiting)
            {
                Active |= _waiting[--_waitingCount].Lanes;
                _nextWaiting = _waitingCount == 0 ? int.MaxValue : _waiting[_waitingCount - 1].At;
                continue;
            }

            (int at, uint lanes) = (Next, Active);
            Resume();
            Wait(at, lanes);
        }
    }

    /// <summary>The lanes that wait at the earliest instruction become the active ones.</summary>
    private void Resume()
    {
        (Next, Active) = _waiting[--_waitingCount];
        _nextWaiting = _waitingCount == 0 ? int.MaxValue : _waiting[_waitingCount - 1].At;
    }

    /// <summary>Keeps those who wait in order, the earliest last.</summary>
    private void Wait(int at, uint lanes)
    {
        int place = _waitingCount;
        while (place > 0 && _waiting[place - 1].At < at) place--;
        if (place > 0 && _waiting[place - 1].At == at)
        {
            _waiting[place - 1].Lanes |= lanes;
        }
        else
        {
            Array.Copy(_waiting, place, _waiting, place + 1, _waitingCount - place);
            _waiting[place] = (at, lanes);
            _waitingCount++;
        }

        _nextWaiting = _waiting[_waitingCount - 1].At;
    }
}
