namespace FusedAttention.Cpu.MachineCode;

/// <summary>An instruction's operands and immediate to bytes.</summary>
internal static class Encoder
{
    private const int NoIndex = 4;

    /// <summary>Appends an instruction. Jumps get a distance of 0, in their last four bytes.</summary>
    /// <exception cref="ArgumentException">The form does not take the operands.</exception>
    public static void Encode(List<byte> code, Form form, Operand a, Operand b, Operand c, int immediate)
    {
        (Operand reg, Operand rm, Operand vvvv) = form.Roles switch
        {
            Roles.Reg => (a, default, default),
            Roles.RegRm => (a, b, default),
            Roles.RmReg => (b, a, default),
            Roles.RegVvvvRm => (a, c, b),
            Roles.RegRmVvvv => (a, b, c),
            Roles.Rm => (new Operand(OperandKind.None, form.Digit), a, default),
            Roles.VvvvRm => (new Operand(OperandKind.None, form.Digit), b, a),
            _ => default((Operand, Operand, Operand)),
        };
        if (rm.IsMemory && rm.Scale != 0 && rm.Index.Number == NoIndex) throw new ArgumentException($"{form.Name} {rm.HardwareName}: the stack pointer cannot be an index.");
        if (rm.IsBroadcast && form.Memory != MemorySize.VectorOrElement) throw new ArgumentException($"{form.Name} repeats no element of memory.");
        if (form.Roles == Roles.RegRmVvvv && (a.Number == b.Number || b.Number == c.Number || a.Number == c.Number)) throw new ArgumentException($"{form.Name} wants three tiles.");

        short bits = Math.Max(a.Bits, Math.Max(b.Bits, c.Bits));
        bool isVector = a.Kind == OperandKind.Vector || b.Kind == OperandKind.Vector || c.Kind == OperandKind.Vector;
        bool needsEvex = isVector && (bits == 512 || a.WriteMask != 0 || rm.IsBroadcast || IsUpper(a) || IsUpper(b) || IsUpper(c));
        int unit = 1;
        if (form.Spaces == Spaces.Legacy)
        {
            AddLegacyPrefix(code, form, reg, rm);
        }
        else if (form.Spaces == Spaces.Evex || (needsEvex && form.Spaces.HasFlag(Spaces.Evex)))
        {
            AddEvexPrefix(code, form, reg, rm, vvvv, bits, a);
            unit = form.Memory switch
            {
                MemorySize.Half => bits / 16,
                MemorySize.Quarter => bits / 32,
                MemorySize.Bytes16 => 16,
                MemorySize.Bytes4 => 4,
                _ => rm.IsBroadcast ? 4 : bits / 8,
            };
        }
        else if (!needsEvex)
        {
            AddVexPrefix(code, form, reg, rm, vvvv, isVector && bits == 256);
        }
        else
        {
            throw new ArgumentException($"{form.Name} has no form for {a.HardwareName}, {b.HardwareName}, {c.HardwareName}.");
        }

        code.Add(form.Opcode);
        if (form.Suffix is { } suffix) code.Add(suffix);
        else if (form.Roles is not (Roles.None or Roles.Target)) AddOperands(code, form, reg, rm, unit);
        int immediateBytes = form.Roles == Roles.Target ? 4 : form.Immediate;
        for (int i = 0; i < immediateBytes; i++) code.Add((byte)(immediate >> (8 * i)));
    }

    private static bool IsUpper(Operand operand) => operand is { Kind: OperandKind.Vector, Number: >= 16 };

    /// <summary>Bit 3 of the field "rm": of the register, or of memory's base.</summary>
    private static int HighRm(Operand rm) => ((rm.IsMemory ? rm.Base.Number : rm.Number) >> 3) & 1;

    private static int HighIndex(Operand rm) => rm.IsMemory && rm.Scale != 0 ? rm.Index.Number >> 3 : 0;

    private static void AddLegacyPrefix(List<byte> code, Form form, Operand reg, Operand rm)
    {
        if (form.Prefix != OpcodePrefix.None) code.Add(form.Prefix switch { OpcodePrefix.P66 => 0x66, OpcodePrefix.PF3 => 0xF3, _ => 0xF2 });
        int rex = ((form.IsWide ? 1 : 0) << 3) | ((reg.Number >> 3) << 2) | (HighIndex(rm) << 1) | HighRm(rm);
        if (rex != 0) code.Add((byte)(0x40 | rex));
        if (form.Map != OpcodeMap.OneByte) code.Add(0x0F);
    }

    private static void AddVexPrefix(List<byte> code, Form form, Operand reg, Operand rm, Operand vvvv, bool is256)
    {
        int last = ((~vvvv.Number & 15) << 3) | ((is256 ? 1 : 0) << 2) | (int)form.Prefix;
        int notReg = (~(reg.Number >> 3) & 1) << 7;
        if (form.Map == OpcodeMap.Map0F && HighIndex(rm) == 0 && HighRm(rm) == 0)
        {
            code.Add(0xC5);
            code.Add((byte)(notReg | last));
            return;
        }

        code.Add(0xC4);
        code.Add((byte)(notReg | ((1 - HighIndex(rm)) << 6) | ((1 - HighRm(rm)) << 5) | (int)form.Map));
        code.Add((byte)last);
    }

    private static void AddEvexPrefix(List<byte> code, Form form, Operand reg, Operand rm, Operand vvvv, short bits, Operand destination)
    {
        // Of a vector register in the field "rm", the place of an index has bit 4.
        int indexOrBit4 = rm.IsMemory ? HighIndex(rm) : rm.Number >> 4;
        code.Add(0x62);
        code.Add((byte)(((~(reg.Number >> 3) & 1) << 7) | ((1 - indexOrBit4) << 6) | ((1 - HighRm(rm)) << 5) | ((~(reg.Number >> 4) & 1) << 4) | (int)form.Map));
        code.Add((byte)(((form.IsWide ? 1 : 0) << 7) | ((~vvvv.Number & 15) << 3) | 4 | (int)form.Prefix));
        code.Add((byte)(((destination.IsZeroing ? 1 : 0) << 7) | ((bits / 256) << 5) | ((rm.IsBroadcast ? 1 : 0) << 4) | ((~(vvvv.Number >> 4) & 1) << 3) | destination.WriteMask));
    }

    /// <summary>The byte of the operands, and that of an index and the displacement that memory may have.</summary>
    private static void AddOperands(List<byte> code, Form form, Operand reg, Operand rm, int unit)
    {
        int field = (reg.Number & 7) << 3;
        if (!rm.IsMemory)
        {
            code.Add((byte)(0xC0 | field | (rm.Number & 7)));
            return;
        }

        // A base whose low bits are those of rbp has no form without a displacement, one with those of rsp none without the byte of an index.
        int low = rm.Base.Number & 7;
        bool isShort = rm.Displacement % unit == 0 && rm.Displacement / unit is >= sbyte.MinValue and <= sbyte.MaxValue;
        int mode = rm.Displacement == 0 && low != 5 ? 0 : isShort ? 1 : 2;
        bool hasIndexByte = form.NeedsIndexByte || rm.Scale != 0 || low == NoIndex;
        code.Add((byte)((mode << 6) | field | (hasIndexByte ? NoIndex : low)));
        if (hasIndexByte)
        {
            int index = rm.Scale == 0 ? NoIndex : rm.Index.Number & 7;
            code.Add((byte)((int.Log2(Math.Max(1, (int)rm.Scale)) << 6) | (index << 3) | low));
        }

        if (mode == 1) code.Add((byte)(rm.Displacement / unit));
        if (mode != 2) return;
        for (int i = 0; i < 4; i++) code.Add((byte)(rm.Displacement >> (8 * i)));
    }
}
