using System.Text;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>When a command buffer of the fake ends.</summary>
internal enum Completion
{
    AtCommit = 0,
    WhenWaitedFor = 1,

    /// <summary>When <see cref="FakeMetal.Finish"/> says so.</summary>
    WhenTold = 2,
}

/// <summary>
/// The fake Objective-C runtime from the side of a test: empty when made, and without errors or leaks when disposed. One at a time: its users are in one collection.
/// </summary>
internal sealed unsafe class FakeMetal : IDisposable
{
    /// <summary>Of the test classes that use it.</summary>
    public const string Collection = "Fake Objective-C runtime";

    private readonly bool _expectsErrors;
    private int _taken;

    /// <param name="expectsErrors">True for tests of the fake itself, which make mistakes on purpose.</param>
    public FakeMetal(bool expectsErrors = false)
    {
        if (FakeLibrary.SkipReason is { } reason) Assert.Skip(reason);
        _expectsErrors = expectsErrors;
        ((delegate* unmanaged<void>)FakeLibrary.Function("fake_reset"))();
    }

    /// <summary>Every message so far, a line each.</summary>
    public string[] Log => Lines("fake_log");

    public string[] Errors => Lines("fake_errors");

    /// <summary>Objects that somebody holds.</summary>
    public string[] Living => Lines("fake_living");

    /// <summary>The text that was compiled last.</summary>
    public string Source => new((sbyte*)((delegate* unmanaged<byte*>)FakeLibrary.Function("fake_source"))());

    /// <summary>The largest number of command buffers that were under way at once.</summary>
    public int MostUnderWay => ((delegate* unmanaged<int>)FakeLibrary.Function("fake_most_unfinished"))();

    /// <summary>A text that has every function a test names, and is longer than the log writes out.</summary>
    public static string Compose(KernelFunction function) =>
        $"// {function.LibraryKey}{(function.Definitions.Any(static d => d.Name is "BROKEN") ? "\n#error" : "")}\nkernel void attend()\n{{\n}}\n\nkernel void merge()\n{{\n}}\n\n// {new string('-', 100)}\n";

    public static KernelFunction Function(string name, params FunctionConstant[] constants) => new(KernelFamily.Plain, name, [new("HEAD_DIM", "64")], [.. constants]);

    /// <summary>A runtime over the fake's default device.</summary>
    public static MetalRuntime Runtime() => new(NativeObject.Own(Native.CreateSystemDefaultDevice(), "the device"), Compose);

    /// <summary>A launch of a kernel on some memory.</summary>
    public static KernelLaunch Launch(KernelFunction function, params BufferBinding[] buffers) =>
        new(function, [.. buffers], 14, [1, 2, 0xFE, 255], new(3, 2, 1), new(32, 4, 1));

    public Completion Completion
    {
        set => Set("completion", (int)value);
    }

    public void Set(string option, nint value)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(option + "\0")) ((delegate* unmanaged<byte*, nint, void>)FakeLibrary.Function("fake_set"))(name, value);
    }

    /// <summary>Makes the n-th call from now on of a method fail: it returns nil, with an NSError if there is room for one and it is wanted.</summary>
    public void Fail(string selector, int nth = 1, bool withError = true)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(selector + "\0"))
            ((delegate* unmanaged<byte*, int, int, void>)FakeLibrary.Function("fake_fail"))(name, nth, withError ? 1 : 0);
    }

    /// <summary>Ends the oldest command buffers until so many are left.</summary>
    public void Finish(int left = 0) => ((delegate* unmanaged<int, int>)FakeLibrary.Function("fake_finish"))(left);

    /// <summary>The messages since the last call of this, without those about memory being given back.</summary>
    public string[] Take()
    {
        string[] all = Log;
        string[] fresh = [.. all[_taken..].Where(static line => !line.StartsWith("dealloc ", StringComparison.Ordinal))];
        _taken = all.Length;
        return fresh;
    }

    /// <summary>Fails the test if anything was done that a Mac would not forgive.</summary>
    public void AssertClean()
    {
        string[] errors = Errors;
        Assert.True(errors.Length == 0, $"{string.Join('\n', errors)}\nafter:\n{string.Join('\n', Log)}");
    }

    /// <summary>Fails the test if somebody holds something yet.</summary>
    public void AssertNothingLives()
    {
        string[] living = Living;
        Assert.True(living.Length == 0, $"Never released: {string.Join(", ", living)}\nafter:\n{string.Join('\n', Log)}");
    }

    public void Dispose()
    {
        if (_expectsErrors) return;
        AssertClean();
        AssertNothingLives();
    }

    private static string[] Lines(string function)
    {
        var read = (delegate* unmanaged<byte*, nint, nint>)FakeLibrary.Function(function);
        byte[] text = new byte[read(null, 0) + 1];
        fixed (byte* first = text) read(first, text.Length);
        return Encoding.UTF8.GetString(text).TrimEnd('\0').Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
