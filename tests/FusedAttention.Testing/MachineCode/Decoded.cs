using FusedAttention.Cpu.MachineCode;
using Iced.Intel;
using Xunit;
using Assembler = FusedAttention.Cpu.MachineCode.Assembler;
using Encoder = Iced.Intel.Encoder;

namespace FusedAttention.Testing;

/// <summary>Emitted code as an independent decoder reads it, instruction by instruction beside what was asked for.</summary>
internal static class Decoded
{
    /// <summary>Decodes a whole kernel; fails where the decoder reads something else than what was asked for, or would encode it in other bytes.</summary>
    public static List<Instruction> AssertSame(Assembler kernel)
    {
        byte[] code = kernel.ToArray();
        Line[] lines = [.. kernel.Lines.Where(line => line.Form is not null)];
        var decoder = Decoder.Create(64, code);
        var instructions = new List<Instruction>();
        var bytes = new Bytes();
        var encoder = Encoder.Create(64, bytes);
        foreach (Line line in lines)
        {
            Assert.True(decoder.IP == (ulong)line.Offset, $"{Listing.Of(line)} was to be at {line.Offset:x}, the decoder is at {decoder.IP:x}.");
            Instruction instruction = decoder.Decode();
            Assert.False(instruction.IsInvalid, $"{Listing.Of(line)} is {Convert.ToHexString(code, line.Offset, Math.Min(15, code.Length - line.Offset))}, which is nothing.");
            Assert.Equal(Expected(line), Text(instruction));
            bytes.List.Clear();
            encoder.Encode(instruction, instruction.IP);
            Assert.Equal(Convert.ToHexString([.. bytes.List]), Convert.ToHexString(code, line.Offset, instruction.Length));
            instructions.Add(instruction);
        }

        Assert.Equal(code.Length, (int)decoder.IP);
        return instructions;
    }

    /// <summary>The listing's text of an instruction, jumps with their target's place.</summary>
    private static string Expected(Line line) => line.Label is { } label ? $"{line.Form!.Name} {label.Offset}" : Listing.Of(line);

    /// <summary>The same text from what the decoder says, operand by operand.</summary>
    private static string Text(Instruction instruction)
    {
        var operands = new List<string>();
        for (int i = 0; i < instruction.OpCount; i++)
        {
            operands.Add(instruction.GetOpKind(i) switch
            {
                OpKind.Register => Name(instruction.GetOpRegister(i)) + (i == 0 ? Masked(instruction) : ""),
                OpKind.Memory => Memory(instruction),
                OpKind.NearBranch64 => $"{instruction.NearBranchTarget}",
                OpKind.Immediate8 => $"{instruction.Immediate8}",
                OpKind.Immediate32to64 => $"{(long)instruction.GetImmediate(i)}",
                OpKind kind => $"({kind})",
            });
        }

        return $"{instruction.Mnemonic.ToString().ToLowerInvariant()} {string.Join(", ", operands)}".TrimEnd();
    }

    private static string Masked(Instruction instruction) =>
        instruction.OpMask == Register.None ? "" : $"{{{Name(instruction.OpMask)}}}{(instruction.ZeroingMasking ? "{z}" : "")}";

    private static string Memory(Instruction instruction)
    {
        string index = instruction.MemoryIndex == Register.None ? "" : $"+{Name(instruction.MemoryIndex)}{(instruction.MemoryIndexScale == 1 ? "" : $"*{instruction.MemoryIndexScale}")}";
        long displacement = (long)instruction.MemoryDisplacement64;
        string offset = displacement == 0 ? "" : displacement > 0 ? $"+{displacement}" : $"{displacement}";
        return $"[{Name(instruction.MemoryBase)}{index}{offset}]{(instruction.IsBroadcast ? "{1to16}" : "")}";
    }

    private static string Name(Register register) => register.ToString().ToLowerInvariant();

    private sealed class Bytes : CodeWriter
    {
        public List<byte> List { get; } = [];

        public override void WriteByte(byte value) => List.Add(value);
    }
}
