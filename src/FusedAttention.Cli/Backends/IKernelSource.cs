namespace FusedAttention.Cli.Backends;

/// <summary>A file of kernel text.</summary>
internal readonly record struct SourceFile(string Name, string Text);

/// <summary>The text of a backend's kernels, for compilers and hosts that are not ours.</summary>
internal interface IKernelSource
{
    /// <summary>Head dimensions that <see cref="DropIn"/> has if nobody asks for others.</summary>
    IReadOnlyList<int> DefaultHeadDims { get; }

    /// <summary>One file that stands alone, with entry points that a host can call without this library.</summary>
    /// <exception cref="ArgumentException">The kernels do not take one of the head dimensions.</exception>
    string DropIn(params ReadOnlySpan<int> headDims);

    /// <summary>Libraries as they are compiled at run time, of every kind that there is.</summary>
    IEnumerable<SourceFile> Libraries();
}
