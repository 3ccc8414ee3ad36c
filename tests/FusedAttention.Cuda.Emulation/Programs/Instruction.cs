using FusedAttention.Cuda.Emulation.Machine;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <summary>What an instruction does in the lanes of a mask, which is not 0. The program counter is at the next instruction already.</summary>
internal readonly unsafe struct Handler(delegate*<Warp, Instruction*, uint, void> run)
{
    public delegate*<Warp, Instruction*, uint, void> Run { get; } = run;
}

/// <summary>
/// An instruction with everything resolved. Rows of registers are given by their offset in bytes: 32 lanes of 4 bytes, or of 8; constants have rows like registers. Predicates are given by their number, and
/// hold a bit for each lane.
/// </summary>
internal unsafe struct Instruction
{
    public delegate*<Warp, Instruction*, uint, void> Run;

    /// <summary>The predicate that says in which lanes it runs: number 0 holds everywhere.</summary>
    public int Guard;

    /// <summary>All ones where the guard's opposite counts.</summary>
    public uint GuardFlip;

    /// <summary>The first result.</summary>
    public int D;

    /// <summary>The second result; -1 where nobody wants it.</summary>
    public int E;

    public int A;
    public int B;
    public int C;

    /// <summary>Elements of a vector, or a matrix count.</summary>
    public int Count;

    /// <summary>Bytes of an element.</summary>
    public int Bytes;

    /// <summary>Where a branch goes, or a small number that is the instruction's own.</summary>
    public int Number;

    /// <summary>What is added to an address, or a larger number.</summary>
    public long Offset;

    /// <summary>Rows of a vector operand, or of several one after the other.</summary>
    public int* Rows;

    /// <summary>The instruction's own number in its program.</summary>
    public int Index;

    /// <summary>Of the text.</summary>
    public int Line;
}
