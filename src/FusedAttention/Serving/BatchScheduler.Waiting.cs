namespace FusedAttention.Serving;

/// <content>Waiting without polling.</content>
public sealed partial class BatchScheduler
{
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
    /// <returns>True if there is something to do; false if the scheduler is disposed, so that nothing will ever come.</returns>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async Task<bool> WaitForWorkAsync(CancellationToken cancellationToken = default)
    {
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Task change;
            lock (_gate)
            {
                if (_isDisposed) return false;
                bool hasRequests = _running.Count + _waiting.Count > 0;
                bool isBlocked = _isBlocked && _ledger.Releases == _seenReleases;
                if (hasRequests && !isBlocked) return true;

                // The ledger completes it too, and does not know this field.
                if (_change is not { Task.IsCompleted: false }) _change = new(TaskCreationOptions.RunContinuationsAsynchronously);
                if (hasRequests) _ledger.NotifyOfReleases(_seenReleases, _change);
                change = _change.Task;
            }

            await change.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private void SetBlocked(bool isEmpty, long releases)
    {
        _isBlocked = isEmpty && _waiting.Count + _running.Count > 0;
        _seenReleases = releases;
    }

    private void WakeWaiters()
    {
        _isBlocked = false;
        _change?.TrySetResult();
        _change = null;
    }
}
