namespace FusedAttention.Cuda.Emulation.Programs;

/// <summary>Takes an opcode apart: its name, and modifiers in the order in which the ISA has them. What nobody takes is an error.</summary>
internal sealed class OpcodeReader(string opcode)
{
    private readonly string[] _parts = opcode.Split('.');
    private int _at = 1;

    public string Opcode => opcode;

    public string Name => _parts[0];

    public bool IsAtEnd => _at == _parts.Length;

    public bool Take(string modifier)
    {
        if (IsAtEnd || !string.Equals(_parts[_at], modifier, StringComparison.Ordinal)) return false;
        _at++;
        return true;
    }

    /// <summary>Takes one of several, or null.</summary>
    public string? TakeOne(params ReadOnlySpan<string> modifiers)
    {
        foreach (string modifier in modifiers)
            if (Take(modifier)) return modifier;
        return null;
    }

    /// <summary>Takes one that must be there.</summary>
    public string Expect(params ReadOnlySpan<string> modifiers) =>
        TakeOne(modifiers) ?? throw new CudaEmulationException($"Opcode {opcode} is not known: one of {string.Join(", ", modifiers.ToArray())} is expected{Behind()}.");

    /// <summary>Takes one that begins like this, or null.</summary>
    public string? TakeBeginning(string beginning) => !IsAtEnd && _parts[_at].StartsWith(beginning, StringComparison.Ordinal) ? _parts[_at++] : null;

    public PtxType Type()
    {
        if (IsAtEnd || !PtxType.IsType(_parts[_at])) throw new CudaEmulationException($"Opcode {opcode} is not known: a type is expected{Behind()}.");
        return new(_parts[_at++]);
    }

    /// <summary>The type, which is one of these.</summary>
    public PtxType Type(params ReadOnlySpan<string> names)
    {
        PtxType type = Type();
        return names.Contains(type.Name) ? type : throw new CudaEmulationException($"Opcode {opcode} is not known: its type is none of {string.Join(", ", names.ToArray())}.");
    }

    /// <summary>Nothing may be left.</summary>
    public void End()
    {
        if (!IsAtEnd) throw new CudaEmulationException($"Opcode {opcode} is not known: .{_parts[_at]} is not expected.");
    }

    private string Behind() => _at == 0 ? "" : $" behind {string.Join('.', _parts[.._at])}";
}
