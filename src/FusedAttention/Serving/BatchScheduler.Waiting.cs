namespace FusedAttention.Serving;

/// <content>Waiting without polling.</content>
public sealed partial class BatchScheduler
{
    /// <summary>Beyond that a timer of the framework refuses: 49 days.</summary>
    private static readonly TimeSpan LongestTimer = TimeSpan.FromDays(40);

    /// <summary>What those wait for who have nothing to do; null while nobody does. One for all, so that waits that are given up leave nothing behind.</summary>
    private TaskCompletionSource? _change;

    /// <summary>The last step was empty although there are requests: it is of no use to try again before requests change, or blocks are released.</summary>
    private bool _isBlocked;

    /// <summary>The ledger's releases that the empty step knew of.</summary>
    private long _seenReleases;

    /// <summary>
    /// Waits until there is something for <see cref="Next"/> to do: a request, and if the last step was empty because sequences outside of this scheduler hold the blocks that requests need, any change of
    /// that. No time passes in between: what happened before the call counts.
    /// </summary>
    /// <remarks>The step may still be empty when it is planned: the last request may have been cancelled meanwhile, or the blocks that were released may be too few. Then wait again.</remarks>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>True if there is something to do; false if nothing will ever come: the scheduler is disposed, or takes no more requests and has none.</returns>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async Task<bool> WaitForWorkAsync(CancellationToken cancellationToken = default)
    {
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Task change;
            TimeSpan? remaining;
            lock (_gate)
            {
                if (_isDisposed || (_isStopping && !HasRequests)) return false;
                bool hasRequests = HasRequests;
                bool isBlocked = _isPaused || (_isBlocked && _ledger.Releases == _seenReleases);
                remaining = _deadlines.Remaining;
                if (hasRequests && (!isBlocked || remaining == TimeSpan.Zero)) return true;

                // The ledger completes it too, and does not know this field.
                if (_change is not { Task.IsCompleted: false }) _change = new(TaskCreationOptions.RunContinuationsAsynchronously);
                if (hasRequests && !_isPaused) _ledger.NotifyOfReleases(_seenReleases, _change);
                change = _change.Task;
            }

            await WaitAsync(change, remaining, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Waits for a change, or until the first request's time is over.</summary>
    private async Task WaitAsync(Task change, TimeSpan? limit, CancellationToken cancellationToken)
    {
        if (limit is not { } remaining || remaining > LongestTimer)
        {
            await change.WaitAsync(cancellationToken).ConfigureAwait(false);
            return;
        }

        // A timer counts whole milliseconds and may be early by one.
        using var over = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task timer = Task.Delay(remaining + TimeSpan.FromMilliseconds(1), Options.TimeProvider, over.Token);
        await Task.WhenAny(change, timer).ConfigureAwait(false);
        await over.CancelAsync().ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
    }

    private void SetBlocked(bool isEmpty, long releases)
    {
        _isBlocked = isEmpty && HasRequests;
        _seenReleases = releases;
    }

    private void WakeWaiters()
    {
        _isBlocked = false;
        _change?.TrySetResult();
        _change = null;
    }
}
