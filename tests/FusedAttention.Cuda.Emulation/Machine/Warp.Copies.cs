using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <content>Copies from device to shared memory in the background (cp.async): nothing of them is there before the warp waits for their group.</content>
internal sealed unsafe partial class Warp
{
    private Queue<Copy> _copies = new();
    private readonly Queue<int> _groups = new();
    private int _uncommitted;

    /// <summary>A copy that is under way.</summary>
    /// <param name="Instruction">That began it.</param>
    /// <param name="Lane">Of the warp.</param>
    /// <param name="To">In shared memory.</param>
    /// <param name="Bytes">How many.</param>
    /// <param name="From">In device memory.</param>
    /// <param name="Taken">How many are read: the rest is zero.</param>
    public readonly record struct Copy(int Instruction, int Lane, uint To, int Bytes, ulong From, int Taken);

    /// <summary>Begins a copy.</summary>
    public void BeginCopy(Instruction* i, int lane, uint to, int bytes, ulong from, int taken)
    {
        Block.Shared.BeginCopy(this, i, lane, to, bytes);
        if (taken > 0) GlobalRead(i, lane, from, taken, alignment: bytes);
        _copies.Enqueue(new(i->Index, lane, to, bytes, from, taken));
        _uncommitted++;
    }

    /// <summary>The copies of a lane, which a barrier counts from here on: whoever waits for groups of copies too is not known.</summary>
    public Copy[] TakeCopies(Instruction* i, int lane)
    {
        if (_groups.Count > 0) throw Fail(i, lane, "has a barrier count copies of which some are in groups");
        Copy[] taken = [.. _copies.Where(copy => copy.Lane == lane)];
        _copies = new(_copies.Where(copy => copy.Lane != lane));
        _uncommitted -= taken.Length;
        return taken;
    }

    /// <summary>The copies since the last commit are a group.</summary>
    public void CommitCopies()
    {
        _groups.Enqueue(_uncommitted);
        _uncommitted = 0;
    }

    /// <summary>All groups but the last so many end.</summary>
    public void WaitForCopies(int underWay)
    {
        while (_groups.Count > underWay)
        {
            for (int left = _groups.Dequeue(); left > 0; left--) End(_copies.Dequeue());
        }
    }

    /// <summary>All copies end, committed or not.</summary>
    public void WaitForAllCopies()
    {
        CommitCopies();
        WaitForCopies(0);
    }

    private void BeginCopies()
    {
        _copies.Clear();
        _groups.Clear();
        _uncommitted = 0;
    }

    private void End(in Copy copy) => End(copy, this);

    /// <summary>A copy ends.</summary>
    /// <param name="copy">Of this warp.</param>
    /// <param name="agent">The warp itself, or the engine, if a barrier counts it.</param>
    public void End(in Copy copy, Agent agent)
    {
        Instruction* i = Program.Code + copy.Instruction;
        byte* to = Block.Shared.EndCopy(agent, i, copy.Lane, copy.To, copy.Bytes);
        if (copy.Taken > 0) Buffer.MemoryCopy(GlobalRead(i, copy.Lane, copy.From, copy.Taken, alignment: copy.Bytes), to, copy.Taken, copy.Taken);
        new Span<byte>(to + copy.Taken, copy.Bytes - copy.Taken).Clear();
    }

    private void AssertNothingUnderWay()
    {
        if (_copies.Count > 0) throw Fail(Program.Code + _copies.Peek().Instruction, _copies.Peek().Lane, "is a copy that nobody has waited for when the warp ended");
        AssertNoStores();
        AssertNoProducts();
    }
}
