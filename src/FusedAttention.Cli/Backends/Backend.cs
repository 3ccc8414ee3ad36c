using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Checks;
using FusedAttention.Cli.Commands;

namespace FusedAttention.Cli.Backends;

/// <summary>Where calls are made. The commands know this type only; what lies behind it are the library's doors, one a backend.</summary>
internal abstract class Backend
{
    public static Backend Cpu { get; } = new CpuBackend();

    /// <summary>As in <c>--backend</c> and <see cref="AttentionExplanation.Backend"/>.</summary>
    public abstract string Name { get; }

    /// <summary>With the device that it stands for.</summary>
    public abstract string Title { get; }

    /// <summary>What <see cref="PreparedCall.Time"/> reads.</summary>
    public abstract string Clock { get; }

    /// <summary>What a report must say of the backend and its device.</summary>
    public virtual (string Name, string Value)[] Facts() => [("backend", Name)];

    /// <summary>Shapes that <c>bench</c> goes through when it is given none; empty for a backend whose <c>bench</c> has one default shape.</summary>
    public virtual IReadOnlyList<BenchRow> BenchRows => [];

    /// <summary>Checks of what only this backend has, beside those that all have in common.</summary>
    public virtual IEnumerable<Check> Checks() => [];

    /// <summary>A call on this backend's own tensors.</summary>
    /// <exception cref="UsageException">The library does not compute on these element types.</exception>
    public PreparedCall Prepare(AttentionCall call) => ElementTypeDispatch.Run(call.Query.ElementType, call.Key.ElementType, new Preparing(this, call));

    /// <summary>What a call would run, without running it.</summary>
    /// <exception cref="UsageException">The library does not compute on these element types.</exception>
    public AttentionExplanation Explain(CallSizes sizes, AttentionOptions options) => ElementTypeDispatch.Run(sizes.QueryType, sizes.KeyValueType, new Explaining(this, sizes, options));

    /// <summary>Throws, in the library's own words, if options that say how to run cannot be met here.</summary>
    public abstract void ThrowIfNotSupported(AttentionOptions options);

    protected abstract PreparedCall Prepare<TQuery, TKeyValue>(AttentionCall call)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;

    protected abstract AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;

    private sealed class Preparing(Backend backend, AttentionCall call) : ITypedWork<PreparedCall>
    {
        public PreparedCall Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => backend.Prepare<TQuery, TKeyValue>(call);
    }

    private sealed class Explaining(Backend backend, CallSizes sizes, AttentionOptions options) : ITypedWork<AttentionExplanation>
    {
        public AttentionExplanation Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => backend.Explain<TQuery, TKeyValue>(sizes, options);
    }
}
