namespace FusedAttention;

/// <summary>What a call runs: the answer of <see cref="Attention.Explain{TQuery, TKeyValue}(in AttentionShape, AttentionOptions, CpuExecution)"/>.</summary>
public sealed record AttentionExplanation
{
    internal AttentionExplanation()
    {
    }

    /// <summary>Where it runs: <c>cpu</c> or <c>metal</c>.</summary>
    public required string Backend { get; init; }

    /// <summary>The GPU that runs it, by the system's name for it; null on the CPU.</summary>
    public string? Device { get; init; }

    /// <summary>The kernels: <c>prefill</c>, <c>decode</c>, <c>prefill + decode</c> and the like, or <c>none</c> for an empty call.</summary>
    public required string Kernel { get; init; }

    /// <summary>The variant of the CPU kernels that this machine would run; null on a GPU.</summary>
    public CpuInstructionSet? InstructionSet { get; init; }

    /// <summary>
    /// What of the call runs as machine code that the library writes (<see cref="CpuMachineCode"/>), or "none" and why; null where there is none to speak of: on a GPU, for other keys and values than binary16.
    /// </summary>
    public string? MachineCode { get; init; }

    /// <summary>That machine code, instruction by instruction with the kernels' own names, written when asked for; null if there is none.</summary>
    public string? MachineCodeListing => Listing?.Invoke();

    internal Func<string>? Listing { get; init; }

    /// <summary>Threads that share the work, the calling one included; 0 on a GPU, where no thread of the process does any of it.</summary>
    public required int Threads { get; init; }

    /// <summary>Independent pieces of work: items that threads take on the CPU, threadgroups on a GPU.</summary>
    public required long WorkItems { get; init; }

    /// <summary>Floating-point operations on allowed keys: two a multiply-add, key and value products only.</summary>
    public required double FloatingPointOperations { get; init; }

    /// <summary>Bytes of keys and values that some query may see, each counted once.</summary>
    public required long KeyValueBytes { get; init; }

    /// <summary>Bytes of working memory beyond inputs and outputs: of all threads together, or of a GPU's tables and partial results.</summary>
    public required long ScratchBytes { get; init; }

    /// <summary>Tiles, splits and the reasons for them, one line each.</summary>
    public required string Details { get; init; }

    /// <summary>The whole explanation as text.</summary>
    public override string ToString() => $"""
        backend          {Backend}
        kernel           {Kernel}
        {(Device is null ? $"instruction set  {InstructionSet}\nthreads          {Threads}" : $"device           {Device}")}
        work items       {WorkItems}
        arithmetic       {Arithmetic(FloatingPointOperations)}
        keys and values  {KeyValueBytes / 1e6:0.###} MB
        scratch          {ScratchBytes / 1e6:0.###} MB
        {Details}
        """;

    /// <summary>"0 GFLOP" said nothing of a small call.</summary>
    private static string Arithmetic(double operations) => operations >= 1e6 ? $"{operations / 1e9:0.###} GFLOP" : $"{operations:0} FLOP";
}
