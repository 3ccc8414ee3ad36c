namespace FusedAttention.Cuda.Launching;

/// <summary>
/// A kernel with everything that is fixed before machine code is made. Its text is written when it is first asked for. There is one object a specialisation in a process, so looking for loaded code
/// compares references.
/// </summary>
/// <param name="entryPoint">The name of the entry in the text.</param>
/// <param name="label">What it is specialised for, in words, for messages: <c>decode Float16 128/128 paged causal</c>.</param>
/// <param name="threads">Of a block.</param>
/// <param name="sharedBytes">Dynamic shared memory of a block.</param>
/// <param name="write">Writes the text.</param>
internal sealed class KernelFunction(string entryPoint, string label, int threads, int sharedBytes, Func<string> write)
{
    private readonly Lazy<string> _text = new(write);

    public string EntryPoint { get; } = entryPoint;

    public string Label { get; } = label;

    public int Threads { get; } = threads;

    public int SharedBytes { get; } = sharedBytes;

    /// <summary>PTX.</summary>
    public string Text => _text.Value;

    public override string ToString() => Label;
}
