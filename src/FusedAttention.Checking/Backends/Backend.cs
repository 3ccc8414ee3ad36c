using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Backends;

/// <summary>Where calls are made. Checks, measurements and commands know this type only; what lies behind it are the library's doors, one a backend.</summary>
public abstract class Backend
{
    /// <summary>As in <see cref="AttentionExplanation.Backend"/>.</summary>
    public abstract string Name { get; }

    /// <summary>With the device that it stands for.</summary>
    public abstract string Title { get; }

    /// <summary>What <see cref="PreparedCall.Time"/> reads.</summary>
    public abstract string Clock { get; }

    /// <summary>What a report must say of the backend and its device.</summary>
    public virtual (string Name, string Value)[] Facts() => [("backend", Name)];

    /// <summary>GB/s at which the device reads memory beyond its caches, measured now: what decoding can reach at most. Null for a backend that does not measure it.</summary>
    public virtual double? MeasureReadRate() => null;

    /// <summary>Has calls run by one form of the backend's kernels from now on, where it has several: for timing one beside the other.</summary>
    /// <param name="variant">The backend's name for it; null for the one that calls get.</param>
    /// <exception cref="ArgumentException">The backend has none of this name.</exception>
    public virtual void Choose(string? variant)
    {
        if (variant is not null) throw new ArgumentException($"{Name} has no variant {variant}.", nameof(variant));
    }

    /// <summary>Whether it takes keys and values of 8 bits.</summary>
    public virtual bool TakesEightBits => false;

    /// <summary>Whether keys and values may be blocks that hold their own scales too.</summary>
    public virtual bool TakesBlocks => false;

    /// <summary>A call on this backend's own tensors.</summary>
    /// <exception cref="UsageException">The library does not compute on these element types.</exception>
    public PreparedCall Prepare(CallInputs call) => ElementTypeDispatch.Run(call.Query.ElementType, call.Key.ElementType, new Preparing(this, call));

    /// <summary>What a call would run, without running it.</summary>
    /// <exception cref="UsageException">The library does not compute on these element types.</exception>
    public AttentionExplanation Explain(CallSizes sizes, AttentionOptions options, RunOptions run)
        => ElementTypeDispatch.Run(sizes.QueryType, sizes.KeyValueType, new Explaining(this, sizes, run.Apply(options), run));

    /// <summary>What a call of a shape would run.</summary>
    /// <param name="shape">What to compute.</param>
    /// <param name="run">How to run it.</param>
    /// <exception cref="UsageException">The library does not compute on these element types.</exception>
    public AttentionExplanation Explain(CallShape shape, RunOptions run) => Explain(shape.Sizes, shape.Options, run);

    /// <summary>What a call runs.</summary>
    public AttentionExplanation Explain(CallInputs call, RunOptions run) => Explain(CallSizes.Of(call), call.Options, run);

    /// <summary>Merges partial results.</summary>
    public MergeResult Merge(MergeInputs inputs) => ElementTypeDispatch.RunAny(inputs.Outputs.ElementType, inputs.OutputType, new Merging(this, inputs));

    /// <summary>An empty paged cache.</summary>
    /// <param name="type">Element type of keys and values.</param>
    /// <param name="options">Its sizes.</param>
    public PreparedCache CreateCache(TensorElementType type, PagedKeyValueCacheOptions options) => ElementTypeDispatch.RunAny(type, type, new CreatingCache(this, options));

    /// <summary>Throws, in the library's own words, if a way to run cannot be met here.</summary>
    public abstract void ThrowIfNotSupported(RunOptions run);

    protected abstract PreparedCall Prepare<TQuery, TKeyValue>(CallInputs call)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;

    protected abstract AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options, RunOptions run)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;

    protected abstract MergeResult Merge<TPartial, TOutput>(MergeInputs inputs)
        where TPartial : unmanaged
        where TOutput : unmanaged;

    protected abstract PreparedCache CreateCache<T>(PagedKeyValueCacheOptions options)
        where T : unmanaged;

    private sealed class Preparing(Backend backend, CallInputs call) : ITypedWork<PreparedCall>
    {
        public PreparedCall Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => backend.Prepare<TQuery, TKeyValue>(call);
    }

    private sealed class Explaining(Backend backend, CallSizes sizes, AttentionOptions options, RunOptions run) : ITypedWork<AttentionExplanation>
    {
        public AttentionExplanation Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => backend.Explain<TQuery, TKeyValue>(sizes, options, run);
    }

    private sealed class Merging(Backend backend, MergeInputs inputs) : ITypedWork<MergeResult>
    {
        public MergeResult Run<TPartial, TOutput>()
            where TPartial : unmanaged
            where TOutput : unmanaged
            => backend.Merge<TPartial, TOutput>(inputs);
    }

    private sealed class CreatingCache(Backend backend, PagedKeyValueCacheOptions options) : ITypedWork<PreparedCache>
    {
        public PreparedCache Run<T, TSame>()
            where T : unmanaged
            where TSame : unmanaged
            => backend.CreateCache<T>(options);
    }
}
