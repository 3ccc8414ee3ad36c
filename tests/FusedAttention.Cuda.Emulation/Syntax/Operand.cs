namespace FusedAttention.Cuda.Emulation.Syntax;

/// <summary>What an instruction names.</summary>
internal abstract record Operand;

/// <summary>A register, a label, a parameter, a shared variable or a special register: what it is depends on where it stands.</summary>
/// <param name="Name">With its percent sign, where it has one.</param>
internal sealed record NameOperand(string Name) : Operand;

/// <summary>A predicate's opposite.</summary>
internal sealed record NotOperand(string Name) : Operand;

/// <summary>An integer, as it is written.</summary>
internal sealed record IntegerOperand(long Value) : Operand;

/// <summary>A float by its bits, or a decimal fraction.</summary>
/// <param name="Bits">Of 32 or 64 bits.</param>
/// <param name="IsDouble">Whether of 64.</param>
internal sealed record FloatOperand(ulong Bits, bool IsDouble) : Operand;

/// <summary>Registers in braces.</summary>
internal sealed record VectorOperand(Operand[] Elements) : Operand;

/// <summary>An address in brackets.</summary>
/// <param name="Base">A register, a symbol, or a number.</param>
/// <param name="Offset">Bytes behind it.</param>
/// <param name="Coordinates">Of a tile, behind its tensor map; null for an address in bytes.</param>
internal sealed record AddressOperand(Operand Base, long Offset, Operand[]? Coordinates) : Operand;

/// <summary>Two results with a bar between them.</summary>
internal sealed record PairOperand(Operand First, Operand Second) : Operand;

/// <summary>A result that nobody wants.</summary>
internal sealed record SinkOperand : Operand;
