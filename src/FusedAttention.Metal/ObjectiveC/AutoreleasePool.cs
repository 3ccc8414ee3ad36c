namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// Releases what methods hand out unowned (command buffers, encoders, strings, errors). Threads of .NET have no pool of their own, so whoever sends such a message opens one.
/// It must be closed by the thread that opened it: a <c>ref struct</c> cannot outlive an <c>await</c> or move to another thread.
/// </summary>
internal readonly ref struct AutoreleasePool
{
    private readonly nint _pool;

    private AutoreleasePool(nint pool) => _pool = pool;

    public static AutoreleasePool Open() => new(Native.PushAutoreleasePool());

    public void Dispose() => Native.PopAutoreleasePool(_pool);
}
