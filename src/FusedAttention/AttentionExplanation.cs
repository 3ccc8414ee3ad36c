namespace FusedAttention;

/// <summary>What a call runs: the answer of <see cref="Attention.Explain{TQuery, TKeyValue}(in AttentionShape, AttentionOptions)"/>.</summary>
public sealed record AttentionExplanation
{
    internal AttentionExplanation()
    {
    }

    /// <summary>Where it runs: <c>cpu</c>.</summary>
    public required string Backend { get; init; }

    /// <summary>The kernels: <c>prefill</c>, <c>decode</c>, <c>prefill + decode</c>, or <c>none</c> for an empty call.</summary>
    public required string Kernel { get; init; }

    /// <summary>The variant of the kernels that this machine would run.</summary>
    public required CpuInstructionSet InstructionSet { get; init; }

    /// <summary>Threads that share the work, the calling one included.</summary>
    public required int Threads { get; init; }

    /// <summary>Independent pieces of work.</summary>
    public required int WorkItems { get; init; }

    /// <summary>Floating-point operations on allowed keys: two a multiply-add, key and value products only.</summary>
    public required double FloatingPointOperations { get; init; }

    /// <summary>Bytes of keys and values that some query may see, each counted once.</summary>
    public required long KeyValueBytes { get; init; }

    /// <summary>Bytes of working memory beyond inputs and outputs, all threads together.</summary>
    public required long ScratchBytes { get; init; }

    /// <summary>Tiles, splits and the reasons for them, one line each.</summary>
    public required string Details { get; init; }

    /// <summary>The whole explanation as text.</summary>
    public override string ToString() => $"""
        backend          {Backend}
        kernel           {Kernel}
        instruction set  {InstructionSet}
        threads          {Threads}
        work items       {WorkItems}
        arithmetic       {FloatingPointOperations / 1e9:0.###} GFLOP
        keys and values  {KeyValueBytes / 1e6:0.###} MB
        scratch          {ScratchBytes / 1e6:0.###} MB
        {Details}
        """;
}
