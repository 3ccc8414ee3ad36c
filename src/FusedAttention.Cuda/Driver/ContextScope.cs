namespace FusedAttention.Cuda.Driver;

/// <summary>Makes a context the thread's current one, unless it is, until this is disposed; what was current before is so again.</summary>
internal readonly ref struct ContextScope : IDisposable
{
    private readonly CudaDriver? _pushed;

    public ContextScope(CudaDriver driver, nint context)
    {
        if (driver.ContextCurrent() == context) return;
        driver.ContextPush(context);
        _pushed = driver;
    }

    public void Dispose() => _pushed?.ContextPop();
}

/// <summary>
/// The same for calls that no graph can have, allocation among them: while anybody captures a stream in the driver's global mode, they would be refused and the capture ruined, on whatever thread.
/// Nothing here depends on what is being captured, so it is safe to have them in between.
/// </summary>
internal readonly ref struct RelaxedScope : IDisposable
{
    private readonly CudaDriver _driver;
    private readonly ContextScope _context;
    private readonly int _mode;

    public RelaxedScope(CudaDriver driver, nint context)
    {
        _driver = driver;
        _context = new(driver, context);
        try
        {
            _mode = driver.RelaxCapture();
        }
        catch
        {
            _context.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        _driver.RestoreCapture(_mode);
        _context.Dispose();
    }
}
