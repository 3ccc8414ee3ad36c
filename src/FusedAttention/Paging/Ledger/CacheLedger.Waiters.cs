namespace FusedAttention.Paging.Ledger;

/// <content>Telling those who found too few blocks that they may look again.</content>
internal sealed partial class CacheLedger
{
    private readonly List<TaskCompletionSource> _waiters = [];
    private long _releases;

    /// <summary>Grows whenever an operation may be possible that was not: blocks were released, or can be found by their tokens; or the cache was closed, so that trying tells.</summary>
    public long Releases => Volatile.Read(ref _releases);

    /// <summary>Completes a source when <see cref="Releases"/> has grown beyond what its owner has seen: at once if that is so already. Continuations must run elsewhere.</summary>
    public void NotifyOfReleases(long seen, TaskCompletionSource waiter)
    {
        using (Enter())
        {
            if (_releases != seen)
            {
                waiter.TrySetResult();
                return;
            }

            _waiters.RemoveAll(static known => known.Task.IsCompleted);
            if (!_waiters.Contains(waiter)) _waiters.Add(waiter);
        }
    }

    private void BlocksAreReleased()
    {
        Volatile.Write(ref _releases, _releases + 1);
        foreach (TaskCompletionSource waiter in _waiters) waiter.TrySetResult();
        _waiters.Clear();
    }
}
