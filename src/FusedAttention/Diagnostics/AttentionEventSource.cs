using System.Diagnostics.CodeAnalysis;
using System.Diagnostics.Tracing;
using System.Runtime.CompilerServices;

namespace FusedAttention.Diagnostics;

/// <summary>
/// The event source <c>FusedAttention</c> for EventPipe, ETW and <see cref="EventListener"/>: <c>CallStart</c> and <c>CallStop</c> on the calling thread, so
/// that a trace shows each call as an activity with its shape.
/// </summary>
[EventSource(Name = SourceName)]
internal sealed unsafe class AttentionEventSource : EventSource
{
    public const string SourceName = "FusedAttention";

    public static readonly AttentionEventSource Log = new();

    private volatile MachineCodeState? _machineCode;

    private AttentionEventSource()
    {
    }

    /// <summary>Whether a listener takes the events of calls.</summary>
    [NonEvent]
    public bool WantsCalls() => IsEnabled(EventLevel.Informational, Keywords.Calls);

    [UnconditionalSuppressMessage("Trimming", "IL2026", Justification = "Strings and numbers only: there is no object graph to trim.")]
    [Event(1, Level = EventLevel.Informational, Keywords = Keywords.Calls, Message = "{0} {1}: {2} queries, {3} keys, {4} heads of {5}")]
    public void CallStart(string backend, string kernel, long queries, long keys, int heads, int dim)
    {
        fixed (char* backendText = backend, kernelText = kernel)
        {
            // WriteEvent with this many arguments would box them into an array.
            EventData* data = stackalloc EventData[6];
            data[0] = Text(backendText, backend);
            data[1] = Text(kernelText, kernel);
            data[2] = Number(ref queries);
            data[3] = Number(ref keys);
            data[4] = Number(ref heads);
            data[5] = Number(ref dim);
            WriteEventCore(1, 6, data);
        }
    }

    /// <param name="backend">As of <see cref="AttentionExplanation.Backend"/>.</param>
    /// <param name="kernel">As of <see cref="AttentionExplanation.Kernel"/>.</param>
    /// <param name="queries">Query rows of all sequences.</param>
    /// <param name="keys">Keys of all sequences.</param>
    /// <param name="heads">Query heads.</param>
    /// <param name="dim">Key dimension.</param>
    /// <param name="microseconds">From plan to result.</param>
    /// <param name="floatingPointOperations">On allowed keys, whether or not the call completed.</param>
    /// <param name="error">Type of the exception; empty if the call completed.</param>
    [UnconditionalSuppressMessage("Trimming", "IL2026", Justification = "Strings and numbers only: there is no object graph to trim.")]
    [Event(2, Level = EventLevel.Informational, Keywords = Keywords.Calls, Message = "{0} {1}: {2} queries, {3} keys, {4} heads of {5}, {6} us")]
    public void CallStop(
        string backend, string kernel, long queries, long keys, int heads, int dim, double microseconds, double floatingPointOperations, string error)
    {
        fixed (char* backendText = backend, kernelText = kernel, errorText = error)
        {
            EventData* data = stackalloc EventData[9];
            data[0] = Text(backendText, backend);
            data[1] = Text(kernelText, kernel);
            data[2] = Number(ref queries);
            data[3] = Number(ref keys);
            data[4] = Number(ref heads);
            data[5] = Number(ref dim);
            data[6] = Number(ref microseconds);
            data[7] = Number(ref floatingPointOperations);
            data[8] = Text(errorText, error);
            WriteEventCore(2, 9, data);
        }
    }

    /// <param name="available">Whether machine code that C# writes can run in this process.</param>
    /// <param name="state">How it comes to run, or why it does not: the kernels are those of the intrinsics then. Said again, with or without tiles and why, once tiles have been asked for.</param>
    [Event(3, Level = EventLevel.Informational, Keywords = Keywords.MachineCode, Message = "machine code: {0}, {1}")]
    public void MachineCode(bool available, string state) => WriteEvent(3, available ? 1 : 0, state);

    /// <summary>Says it now, and to whoever listens later.</summary>
    [NonEvent]
    public void SetMachineCode(bool available, string state)
    {
        _machineCode = new(available, state);
        if (IsEnabled(EventLevel.Informational, Keywords.MachineCode)) MachineCode(available, state);
    }

    protected override void OnEventCommand(EventCommandEventArgs command)
    {
        if (command.Command == EventCommand.Enable && _machineCode is { } known && IsEnabled(EventLevel.Informational, Keywords.MachineCode)) MachineCode(known.Available, known.State);
    }

    /// <summary>With the zero that ends every string in memory.</summary>
    [NonEvent]
    private static EventData Text(char* pinned, string text) => new() { DataPointer = (nint)pinned, Size = (text.Length + 1) * sizeof(char) };

    /// <param name="argument">On the stack: it does not move before the event is written.</param>
    [NonEvent]
    private static EventData Number<T>(ref T argument)
        where T : unmanaged
        => new() { DataPointer = (nint)Unsafe.AsPointer(ref argument), Size = sizeof(T) };

    public static class Keywords
    {
        public const EventKeywords Calls = (EventKeywords)1;

        public const EventKeywords MachineCode = (EventKeywords)2;
    }

    private sealed record MachineCodeState(bool Available, string State);
}
