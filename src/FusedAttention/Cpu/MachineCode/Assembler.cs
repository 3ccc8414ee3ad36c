using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace FusedAttention.Cpu.MachineCode;

/// <summary>A place in the code that jumps lead to.</summary>
internal sealed class Label(string name)
{
    public string Name => name;

    /// <summary>Where it is; -1 before it is placed.</summary>
    public int Offset { get; set; } = -1;
}

/// <summary>An instruction as it was asked for, or a label.</summary>
internal readonly struct Line(int offset, Form? form, Operand a, Operand b, Operand c, int immediate, Label? label)
{
    public int Offset => offset;

    public Form? Form => form;

    public Operand A => a;

    public Operand B => b;

    public Operand C => c;

    public int Immediate => immediate;

    public Label? Label => label;
}

/// <summary>How a kernel is entered, and which registers it may change without asking.</summary>
/// <param name="block">The register that brings the address of the parameter block.</param>
/// <param name="lowVectors">Vector registers below 16 that need not be kept; those from 16 on never need.</param>
/// <param name="gprs">General registers that need not be kept, beside rcx.</param>
internal readonly struct CallingConvention(Gpr block, int lowVectors, byte[] gprs)
{
    public static readonly CallingConvention SystemV = new(new(7), 16, [0, 2, 8, 9, 10, 11, 6, 7]);

    /// <summary>It keeps the lower parts of xmm6 to xmm15.</summary>
    public static readonly CallingConvention Windows = new(new(1), 6, [0, 2, 8, 9, 10, 11]);

    public Gpr Block => block;

    public int LowVectors => lowVectors;

    public ReadOnlySpan<byte> Gprs => gprs;

    public static CallingConvention Current => OperatingSystem.IsWindows() ? Windows : SystemV;
}

/// <summary>Writes a kernel: registers by the names that it gives them, instructions one a line, labels, and the parameter block that a call brings.</summary>
/// <remarks>
/// <para>A kernel is a leaf: it is called with the address of its block, calls nothing, has no stack and touches no register that a caller keeps, so nothing has to be said to whoever unwinds. What does not fit
/// registers it keeps in the block.</para>
/// <para>Of general registers both conventions leave rax, rcx, rdx and r8 to r11, System V also rsi and rdi; the block is in rcx.</para>
/// </remarks>
internal sealed partial class Assembler
{
    private readonly List<byte> _code = [];
    private readonly List<Line> _lines = [];
    private readonly List<(int End, Label Label)> _jumps = [];
    private readonly CallingConvention _convention;
    private int _gprs;
    private int _vectors;
    private int _tiles;

    public Assembler(string name, CallingConvention convention)
    {
        Name = name;
        _convention = convention;
        Emit(Forms.Endbr64);
        if (convention.Block.Number != Block.Number) Mov(Block, convention.Block with { Name = "block" });
    }

    /// <summary>The kernel's name in listings and profiles.</summary>
    public string Name { get; }

    public IReadOnlyList<Line> Lines => _lines;

    /// <summary>The address of the parameter block.</summary>
    public Gpr Block { get; } = new(1, "block");

    /// <summary>The code; all labels have to be placed.</summary>
    /// <exception cref="InvalidOperationException">A jump leads nowhere.</exception>
    public byte[] ToArray()
    {
        Span<byte> code = CollectionsMarshal.AsSpan(_code);
        foreach ((int end, Label label) in _jumps)
        {
            if (label.Offset < 0) throw new InvalidOperationException($"{Name} jumps to {label.Name}, which is nowhere.");
            BinaryPrimitives.WriteInt32LittleEndian(code[(end - 4)..], label.Offset - end);
        }

        return code.ToArray();
    }

    /// <summary>A field of the parameter block.</summary>
    public Mem Field(int offset, string name) => new(Block, offset, $"[block.{name}]");

    /// <exception cref="InvalidOperationException">There is none left.</exception>
    public Gpr Gpr(string name) => _gprs < _convention.Gprs.Length ? new(_convention.Gprs[_gprs++], name) : throw new InvalidOperationException($"{Name} has no general register left for {name}.");

    /// <summary>A vector register; of 512 bits there are 16 more of them, which come before those that Windows keeps.</summary>
    /// <exception cref="InvalidOperationException">There is none left.</exception>
    public Vec Vector(short bits, string name)
    {
        int low = bits == 512 ? Math.Min(6, _convention.LowVectors) : _convention.LowVectors;
        int number = _vectors < low ? _vectors : bits != 512 ? 32 : _vectors < low + 16 ? 16 + _vectors - low : _vectors < _convention.LowVectors + 16 ? _vectors - 16 : 32;
        if (number >= 32) throw new InvalidOperationException($"{Name} has no vector register left for {name}.");
        _vectors++;
        return new((byte)number, bits, name);
    }

    /// <summary>Several vector registers, numbered.</summary>
    public Vec[] Vectors(short bits, string name, int count) => [.. Enumerable.Range(0, count).Select(i => Vector(bits, $"{name}{i}"))];

    /// <exception cref="InvalidOperationException">There is none left.</exception>
    public Tile Tile(string name) => _tiles < 8 ? new((byte)_tiles++, name) : throw new InvalidOperationException($"{Name} has no tile left for {name}.");

    public void Place(Label label)
    {
        label.Offset = _code.Count;
        _lines.Add(new(_code.Count, null, default, default, default, 0, label));
    }

    /// <summary>The kernel's only kind of end: what vectors and tiles hold is given up.</summary>
    public void Return(bool releaseTiles = false)
    {
        if (releaseTiles) Emit(Forms.Tilerelease);
        Emit(Forms.Vzeroupper);
        Emit(Forms.Ret);
    }

    /// <summary>An instruction of any form; kernels use the typed ones.</summary>
    public void Emit(Form form, Operand a = default, Operand b = default, Operand c = default, int immediate = 0)
    {
        _lines.Add(new(_code.Count, form, a, b, c, immediate, null));
        Encoder.Encode(_code, form, a, b, c, immediate);
    }

    private void Jump(Form form, Label label)
    {
        _lines.Add(new(_code.Count, form, default, default, default, 0, label));
        Encoder.Encode(_code, form, default, default, default, 0);
        _jumps.Add((_code.Count, label));
    }
}
