namespace FusedAttention.Testing;

/// <summary>Which overload of a call is used.</summary>
public enum Surface
{
    TensorSpan,
    Tensor,
    Span,
    Pointer,
}

/// <summary>How a problem is laid out in memory and handed to the library. No choice here may change a bit of the result.</summary>
internal sealed record Arrangement
{
    public static Arrangement Plain { get; } = new();

    public TensorOrder Query { get; init; }

    public TensorOrder Key { get; init; }

    public TensorOrder Value { get; init; }

    public TensorOrder Output { get; init; }

    public Placement Placement { get; init; }

    public Surface Surface { get; init; }

    /// <summary>Leave the batch dimension of a dense call with one sequence away.</summary>
    public bool WithoutBatchDimension { get; init; }

    /// <summary>Foreign elements after each row of mask, bias and log-sum-exp.</summary>
    public int RowGap { get; init; }

    /// <summary>NaN at the keys and values that no query of their sequence may see by position (always at those beyond the lengths).</summary>
    public bool PoisonsUnseenKeys { get; init; } = true;

    public bool WantsLogSumExp { get; init; } = true;

    /// <summary>Seeds the order of physical blocks.</summary>
    public int BlockSeed { get; init; }

    /// <summary>Physical blocks that nobody uses.</summary>
    public int SpareBlocks { get; init; } = 2;

    /// <summary>Entries of a block table beyond the longest sequence's last block.</summary>
    public int SpareEntries { get; init; } = 1;

    /// <summary>What table entries past the last needed one hold.</summary>
    public int PadEntry { get; init; } = -1;
}
