using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Text;

namespace FusedAttention.Cpu.Comparison;

/// <summary>A prefill of bfloat16, [token][head][dim] in memory. All fields take 8 bytes, so that no compiler pads them differently: prefill.py has the same list.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativePrefill
{
    public BFloat16* Query;
    public BFloat16* Key;
    public BFloat16* Value;
    public BFloat16* Output;
    public long Tokens;
    public long QueryHeads;
    public long KeyValueHeads;
    public long Dim;
    public long IsCausal;

    /// <summary>-1: all.</summary>
    public long Threads;

    /// <summary>Whether machine code may run.</summary>
    public long MachineCode;
}

/// <summary>The C interface, for one thread. Functions return 0, and -1 where something failed: <c>fa_last_error</c> has the words. Texts go into the caller's buffer, UTF-8, ended by a 0 and cut where it is too short.</summary>
[SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "An exception that leaves such a function ends the process without a word.")]
internal static unsafe class Exports
{
    private static string _error = "";

    /// <summary>Computes a call.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_prefill")]
    public static int Prefill(NativePrefill* call)
    {
        try
        {
            Attention.Forward(call->Query, call->Key, call->Value, call->Output, Shape(call), Options(call), execution: Execution(call));
            return 0;
        }
        catch (Exception failure)
        {
            _error = failure.ToString();
            return -1;
        }
    }

    /// <summary>What it runs, and why.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_explain")]
    public static int Explain(NativePrefill* call, byte* text, int capacity)
    {
        try
        {
            return Put(Attention.Explain<BFloat16, BFloat16>(Shape(call), Options(call), execution: Execution(call)).ToString(), text, capacity);
        }
        catch (Exception failure)
        {
            _error = failure.ToString();
            return -1;
        }
    }

    /// <summary>What the last failure said.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_last_error")]
    public static int LastError(byte* text, int capacity) => Put(_error, text, capacity);

    private static AttentionShape Shape(NativePrefill* call) =>
        new(1, (int)call->Tokens, (int)call->Tokens, (int)call->QueryHeads, (int)call->KeyValueHeads, (int)call->Dim);

    private static AttentionOptions Options(NativePrefill* call) => new() { Mask = call->IsCausal != 0 ? AttentionMask.Causal : AttentionMask.Full };

    private static CpuExecution Execution(NativePrefill* call) =>
        new() { MaxDegreeOfParallelism = (int)call->Threads, MachineCode = call->MachineCode != 0 ? CpuMachineCode.Auto : CpuMachineCode.Off };

    private static int Put(string words, byte* text, int capacity)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(words);
        int length = int.Min(bytes.Length, capacity - 1);
        bytes.AsSpan(0, length).CopyTo(new Span<byte>(text, length));
        text[length] = 0;
        return 0;
    }
}
