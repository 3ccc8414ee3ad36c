namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// What the system means by ending work with an error, in words, and what to do about it. Why, it tells by codes of its driver in the error's description, <c>0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity</c>,
/// which programs that meet them put into their bug reports; the error's own code (MTLCommandBufferError) is coarser.
/// </summary>
/// <param name="Words">For the message, behind the system's own words.</param>
/// <param name="TookTooLong">Whether less at a time would not have been stopped.</param>
/// <param name="SpoilsQueue">Whether the system is going to ignore what is submitted to the same queue, or does so already.</param>
internal sealed record Interruption(string Words, bool TookTooLong = false, bool SpoilsQueue = false)
{
    private const string Incomplete = "What it was to write is not complete.";
    private const string NewQueue = "The next call gets a queue of its own.";

    private static readonly Interruption None = new("");

    private static readonly Interruption Slow = new(
        $"The system stopped this work because it took too long. {Incomplete} Command buffers get half of the work from now on. Calls in smaller pieces (fewer queries or sequences at a time) are not stopped.",
        TookTooLong: true, SpoilsQueue: true);

    private static readonly Interruption Ignored = new(
        $"The system took no more work from this queue after what went wrong before: {Lower(Incomplete)} {NewQueue}", SpoilsQueue: true);

    private static readonly Interruption Fault = new(
        $"This work reached for memory that is not the GPU's: memory that was freed under a tensor, or a mistake in a kernel. {Incomplete} {NewQueue}", SpoilsQueue: true);

    private static readonly Interruption Memory = new(
        $"The GPU's memory is not enough for what the work uses at once. {Incomplete} Smaller caches and fewer tensors make room, and so do other programs that end.");

    private static readonly Interruption Forbidden = new($"The system does not let this process use the GPU at the moment, for instance from the background. {Incomplete}");

    private static readonly Interruption Removed = new($"The GPU is no longer there. {Incomplete}");

    /// <summary>In this order: the driver's codes come before the coarser ones, of which one stands for several of them.</summary>
    private static readonly (string Text, Interruption Means)[] Known =
    [
        ("ImpactingInteractivity", Slow with { Words = $"The system stopped this work because it kept the screen waiting. {Slow.Words[(Slow.Words.IndexOf('.', StringComparison.Ordinal) + 2)..]}" }),
        ("SubmissionsIgnored", Ignored),
        ("InnocentVictim", new($"Other work on the GPU failed, and took this along. {Incomplete} The same call again may well succeed.")),
        ("CallbackErrorTimeout", Slow),
        ("CallbackErrorHang", new($"This work made no progress. {Incomplete} {NewQueue}", TookTooLong: true, SpoilsQueue: true)),
        ("CallbackErrorPageFault", Fault),
        ("CallbackErrorOutOfMemory", Memory),
        ("BackgroundExecutionNotPermitted", Forbidden),
        ("MTLCommandBufferErrorDomain 2)", Slow),
        ("MTLCommandBufferErrorDomain 3)", Fault),
        ("MTLCommandBufferErrorDomain 4)", Ignored),
        ("MTLCommandBufferErrorDomain 7)", Forbidden),
        ("MTLCommandBufferErrorDomain 8)", Memory),
        ("MTLCommandBufferErrorDomain 9)", Fault),
        ("MTLCommandBufferErrorDomain 11)", Removed),
    ];

    /// <param name="description">The error as <see cref="NativeText.Describe"/> has it: the system's words, domain and code.</param>
    public static Interruption Of(string description)
    {
        foreach ((string text, Interruption means) in Known)
        {
            if (description.Contains(text, StringComparison.Ordinal)) return means;
        }

        return None;
    }

    private static string Lower(string sentence) => char.ToLowerInvariant(sentence[0]) + sentence[1..];
}
