namespace FusedAttention.Cpu.Threading;

/// <summary>
/// A monitor that <see cref="Thread.Interrupt"/> cannot break open. A caller that left a job early would free memory its helpers still write to, so an
/// interrupt that arrives meanwhile is put off: it is raised again once the monitor is held or the wait is over, and meets the thread at its next wait.
/// </summary>
internal static class Uninterrupted
{
    public static void Enter(object gate)
    {
        bool held = false;
        bool interrupted = false;
        while (!held)
        {
            try
            {
                Monitor.Enter(gate, ref held);
            }
            catch (ThreadInterruptedException)
            {
                interrupted = true;
            }
        }

        if (interrupted) Thread.CurrentThread.Interrupt();
    }

    /// <summary>Waits once for a pulse; true when an interrupt ended the wait, which the caller raises again when it has done waiting.</summary>
    public static bool Wait(object gate)
    {
        try
        {
            Monitor.Wait(gate);
            return false;
        }
        catch (ThreadInterruptedException)
        {
            return true;
        }
    }
}
