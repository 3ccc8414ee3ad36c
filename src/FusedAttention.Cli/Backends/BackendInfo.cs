namespace FusedAttention.Cli.Backends;

/// <summary>What <c>info</c> says of a backend.</summary>
/// <param name="Status">Whether it is available, and if not, why.</param>
internal sealed record BackendInfo(string Status)
{
    /// <summary>Variants of its kernels; null where there is one.</summary>
    public InfoTable? Variants { get; init; }

    /// <summary>Its devices; null where there is nothing to tell them apart by.</summary>
    public InfoTable? Devices { get; init; }
}

/// <summary>A table; the first column is text, the others are aligned to the right.</summary>
internal sealed record InfoTable(string[] Headings, IReadOnlyList<string[]> Rows);
