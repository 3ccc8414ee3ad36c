using System.Runtime.InteropServices;
using FusedAttention.Cuda.Emulation.Syntax;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <summary>A kernel, ready to run: instructions in native memory, the rows of its registers and constants. It lives as long as the process, as the kernels of this library do.</summary>
internal sealed unsafe class KernelProgram
{
    private readonly PtxStatement[] _statements;

    private KernelProgram(PtxKernelText text, string label)
    {
        (Label, Text, _statements) = (label, text, [.. text.Statements]);
        Registers = new(text);
        var decoder = new Decoder(text, Registers);
        Code = (Instruction*)NativeMemory.AlignedAlloc((nuint)((_statements.Length + 1) * sizeof(Instruction)), 64);
        for (int i = 0; i < _statements.Length; i++) Code[i] = decoder.Decode(_statements[i], i);

        // Text that runs past its last statement ends there.
        Code[_statements.Length] = decoder.Decode(new(_statements.Length == 0 ? 0 : _statements[^1].Line, null, false, "exit", []), _statements.Length);
        Constants = decoder.Constants();
        SharedBytes = decoder.StaticSharedBytes;
        RowBytes = Registers.Bytes + Constants.Length;
    }

    /// <summary>For messages.</summary>
    public string Label { get; }

    public PtxKernelText Text { get; }

    public RegisterAllocation Registers { get; }

    /// <summary>One for each statement, and one that ends.</summary>
    public Instruction* Code { get; }

    public int Length => _statements.Length + 1;

    /// <summary>The rows behind those of the registers.</summary>
    public byte[] Constants { get; }

    /// <summary>Of all rows.</summary>
    public int RowBytes { get; }

    /// <summary>Shared memory that the text declares with a size.</summary>
    public int SharedBytes { get; }

    /// <exception cref="CudaEmulationException">The text is not what the emulator knows.</exception>
    public static KernelProgram Load(string text, string entryPoint, string label) => new(PtxParser.Parse(text, entryPoint), label);

    /// <summary>An instruction in words: its line and its opcode.</summary>
    public string Describe(int index) => index < _statements.Length ? $"line {_statements[index].Line}, {_statements[index].Opcode}" : "the end of the text";
}
