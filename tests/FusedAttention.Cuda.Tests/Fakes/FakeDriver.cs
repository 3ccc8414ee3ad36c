using FusedAttention.Cuda.Driver;
using Xunit;

namespace FusedAttention.Cuda.Tests.Fakes;

/// <summary>
/// The CUDA driver in C#, behind the same addresses of functions: it keeps contexts by thread, refuses what the real one refuses (no context, calls that no graph can have while one is captured), and
/// writes down what it was asked. Its memory is the host's.
/// </summary>
internal sealed unsafe partial class FakeDriver : IDisposable
{
    public const string Collection = "fake driver";

    private const int InvalidImage = 200;
    private const int InvalidContext = 201;
    private const int NotReady = 600;
    private const int CaptureUnsupported = 900;

    private static FakeDriver? s_driver;

    [ThreadStatic]
    private static Stack<nint>? t_contexts;

    [ThreadStatic]
    private static int t_captureMode;

    private readonly Lock _gate = new();
    private readonly List<string> _log = [];
    private readonly Dictionary<nint, bool> _events = [];
    private readonly HashSet<ulong> _memory = [];
    private long _handles = 0x5000;

    public FakeDriver()
    {
        Assert.Null(s_driver);
        s_driver = this;
        t_contexts?.Clear();
        t_captureMode = 0;
    }

    public sealed record FakeDevice(string Name, int Major, int Minor);

    public List<FakeDevice> Devices { get; } = [new("Fake H100", 9, 0)];

    public int Version { get; set; } = 13000;

    public bool HasPools { get; set; } = true;

    /// <summary>Functions that it does not have.</summary>
    public HashSet<string> Missing { get; } = new(StringComparer.Ordinal);

    /// <summary>What functions answer from now on, by name.</summary>
    public Dictionary<string, int> Failing { get; } = new(StringComparer.Ordinal);

    /// <summary>Whether events have been reached as soon as they are recorded.</summary>
    public bool EndsAtOnce { get; set; }

    /// <summary>Whether somebody somewhere captures a stream in global mode.</summary>
    public bool IsAnyCapturing { get; set; }

    /// <summary>The stream that is being captured.</summary>
    public nint Capturing { get; set; } = -1;

    /// <summary>What the assembler says in its two logs.</summary>
    public (string Info, string Error) Logs { get; set; } = ("info : used 40 registers", "");

    public int MaxThreads { get; set; } = 1024;

    public int LocalBytes { get; set; }

    /// <summary>False for tests that count what is allocated.</summary>
    public bool Records { get; set; } = true;

    /// <summary>Runs while a module is being loaded, outside of all locks: its text.</summary>
    public Action<string>? OnLoad { get; set; }

    /// <summary>Runs in cuEventSynchronize, outside of all locks.</summary>
    public Action? OnEventSynchronize { get; set; }

    public List<byte[]> Launched { get; } = [];

    /// <summary>What every kernel's text declares of its parameter.</summary>
    public int ParameterBytes { get; set; }

    public int LivingMemory
    {
        get { lock (_gate) return _memory.Count; }
    }

    public int LivingEvents
    {
        get { lock (_gate) return _events.Count; }
    }

    /// <summary>The context that is current on this thread.</summary>
    public static nint Current => t_contexts is { Count: > 0 } contexts ? contexts.Peek() : 0;

    /// <summary>What a thread may do while a graph is captured: 0 is the driver's default.</summary>
    public static int CaptureMode => t_captureMode;

    public nint Find(string name) => !Missing.Contains(name) && Functions.TryGetValue(name, out nint address) ? address : 0;

    /// <summary>The first device.</summary>
    public CudaRuntime Runtime() => SystemDevices.Find(Find).Runtimes[0];

    /// <summary>Makes a context of somebody else's current on this thread.</summary>
    public static void Push(nint context) => (t_contexts ??= new()).Push(context);

    /// <summary>What was asked since the last time, without what is asked all the time.</summary>
    public string[] Take()
    {
        lock (_gate)
        {
            string[] taken = [.. _log];
            _log.Clear();
            return taken;
        }
    }

    /// <summary>The device reaches events, oldest first.</summary>
    public void Reach(int events)
    {
        lock (_gate)
        {
            foreach (nint reached in _order.Take(events)) _events[reached] = true;
            _order.RemoveRange(0, events);
        }
    }

    public void Dispose() => s_driver = null;
}

[CollectionDefinition(FakeDriver.Collection, DisableParallelization = true)]
public sealed class FakeDriverDefinition;
