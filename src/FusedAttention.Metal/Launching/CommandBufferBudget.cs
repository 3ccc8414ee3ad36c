namespace FusedAttention.Metal.Launching;

/// <summary>
/// How much work a command buffer may have, by <see cref="KernelLaunch.Cost"/>: about a tenth of a second of this GPU, as it says itself by the times of what has ended. The system stops command buffers
/// that keep the screen waiting, from a length on that it does not tell; some a tenth of a second long cost nothing beside one that is as long as all of them.
/// </summary>
internal sealed class CommandBufferBudget
{
    /// <summary>How long a command buffer is to take.</summary>
    public const double Seconds = 0.1;

    /// <summary>Before anything is known: a tenth of a second at 1 TFLOP/s, 40 % of the peak of the slowest device (M1, 8 cores).</summary>
    public const double First = 1e11;

    /// <summary>A GPU that somebody else keeps busy looks slow. This is still 10 ms of the slowest one by itself, a thousand times what beginning a command buffer costs.</summary>
    public const double Least = 1e10;

    /// <summary>Four times what the fastest does in that time (32 TFLOP/s, M3 Ultra).</summary>
    public const double Most = 1.28e13;

    /// <summary>What is shorter says more about starting than about working.</summary>
    private const double ShortestSeconds = 2e-3;

    private double _current = First;

    /// <summary>The budget. Read from any thread.</summary>
    public double Current => Volatile.Read(ref _current);

    /// <summary>A command buffer has ended well. Called by one thread at a time.</summary>
    /// <param name="cost">Of its launches.</param>
    /// <param name="seconds">From its start to its end on the GPU.</param>
    public void Learn(double cost, double seconds)
    {
        if (cost <= 0 || !(seconds >= ShortestSeconds)) return;
        double fits = cost / seconds * Seconds, current = _current;

        // Down at once, up by a quarter of the way: costs are guesses that err differently for each kernel, and what takes too long is stopped where what is short only takes a little more.
        Set(fits < current ? fits : current + ((fits - current) / 4));
    }

    /// <summary>The system has stopped a command buffer for taking too long.</summary>
    public void Halve() => Set(_current / 2);

    private void Set(double budget) => Volatile.Write(ref _current, Math.Clamp(budget, Least, Most));
}
