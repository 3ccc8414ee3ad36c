namespace FusedAttention.Testing;

/// <summary>Does something over and over on a thread of its own, until it is disposed: collections, while calls run.</summary>
/// <remarks>
/// There is a millisecond between. One forced collection after another leaves callers no time between their pauses, on any number of processors: one test took half a second here and half a minute there, and all of the library's three minutes or more than eleven.
/// </remarks>
internal sealed class Meanwhile : IDisposable
{
    private readonly BackgroundThread _thread;
    private bool _isOver;

    private Meanwhile(Action action) => _thread = BackgroundThread.Start(() =>
    {
        while (!Volatile.Read(ref _isOver))
        {
            action();
            Thread.Sleep(1);
        }
    });

    public static Meanwhile Repeat(Action action) => new(action);

    /// <summary>Ends it, and throws what it has thrown.</summary>
    public void Dispose()
    {
        Volatile.Write(ref _isOver, true);
        _thread.Join();
    }
}
