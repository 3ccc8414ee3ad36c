using System.Runtime.ExceptionServices;

namespace FusedAttention.Testing;

/// <summary>A thread whose exception fails the test that waits for it, instead of the process.</summary>
internal sealed class BackgroundThread
{
    private readonly Thread _thread;
    private ExceptionDispatchInfo? _failure;

    private BackgroundThread(Action action) => _thread = new Thread(() =>
    {
        try
        {
            action();
        }
        catch (Exception e)
        {
            _failure = ExceptionDispatchInfo.Capture(e);
        }
    })
    {
        IsBackground = true,
    };

    public bool IsAlive => _thread.IsAlive;

    public static BackgroundThread Start(Action action)
    {
        var thread = new BackgroundThread(action);
        thread._thread.Start();
        return thread;
    }

    /// <summary>Waits, two minutes at most, and throws what the thread threw.</summary>
    public void Join()
    {
        if (!_thread.Join(TimeSpan.FromMinutes(2))) throw new TimeoutException("A thread did not come back within two minutes.");
        _failure?.Throw();
    }
}
