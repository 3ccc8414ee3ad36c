using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Text;

namespace FusedAttention.Cuda.Comparison;

/// <summary>
/// The C interface, for one thread. Functions return 0, or a handle above 0, and -1 where something failed: <c>fa_last_error</c> has the words. Texts go into the caller's buffer, UTF-8, ended by a 0 and cut where
/// it is too short.
/// </summary>
[SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "An exception that leaves such a function ends the process without a word.")]
internal static unsafe class Exports
{
    private static readonly List<PreparedCall?> Calls = [null];
    private static readonly Dictionary<nint, CudaStream> Streams = [];
    private static string _error = "";

    /// <summary>Bytes of the structure of a call.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_call_size")]
    public static int CallSize() => sizeof(NativeCall);

    /// <summary>A call in words, as this side understands it; takes no GPU.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_describe")]
    public static int Describe(NativeCall* call, byte* text, int capacity)
    {
        try
        {
            return Put(new CallDescription(call).ToString(), text, capacity);
        }
        catch (Exception failure)
        {
            return Failed(failure);
        }
    }

    /// <summary>The device's name; makes its context, unless there is one.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_open")]
    public static int Open(byte* text, int capacity)
    {
        try
        {
            _ = CudaDevice.Default.DefaultStream;
            return Put(CudaDevice.Default.ToString(), text, capacity);
        }
        catch (Exception failure)
        {
            return Failed(failure);
        }
    }

    /// <summary>Prepares a call and returns its handle.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_create")]
    public static long Create(NativeCall* call)
    {
        try
        {
            CudaDevice device = CudaDevice.Default;
            if (!Streams.TryGetValue(call->Stream, out CudaStream? stream)) Streams.Add(call->Stream, stream = device.WrapStream(call->Stream));
            Calls.Add(PreparedCall.Of(device, stream, call));
            return Calls.Count - 1;
        }
        catch (Exception failure)
        {
            return Failed(failure);
        }
    }

    /// <summary>Queues a call.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_run")]
    public static int Run(long call)
    {
        try
        {
            Calls[(int)call]!.Run();
            return 0;
        }
        catch (Exception failure)
        {
            return Failed(failure);
        }
    }

    /// <summary>Queues calls in turn, so many in all, and says how long the host took for it.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_run_many")]
    public static int RunMany(long* calls, int count, int times, double* seconds)
    {
        try
        {
            long start = Stopwatch.GetTimestamp();
            for (int i = 0, next = 0; i < times; i++)
            {
                Calls[(int)calls[next]]!.Run();
                if (++next == count) next = 0;
            }

            *seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            return 0;
        }
        catch (Exception failure)
        {
            return Failed(failure);
        }
    }

    /// <summary>What a call runs, and why.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_explain")]
    public static int Explain(long call, byte* text, int capacity)
    {
        try
        {
            return Put(Calls[(int)call]!.Explain().ToString(), text, capacity);
        }
        catch (Exception failure)
        {
            return Failed(failure);
        }
    }

    /// <summary>Writes and loads the kernels of a call, unless that has been done, and says how long that took.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_load")]
    public static int Load(long call, double* seconds)
    {
        try
        {
            long start = Stopwatch.GetTimestamp();
            Calls[(int)call]!.Prepare();
            *seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            return 0;
        }
        catch (Exception failure)
        {
            return Failed(failure);
        }
    }

    /// <summary>Forgets a call; what it queued goes on.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_release")]
    public static void Release(long call) => Calls[(int)call] = null;

    /// <summary>What the last failure said.</summary>
    [UnmanagedCallersOnly(EntryPoint = "fa_last_error")]
    public static int LastError(byte* text, int capacity) => Put(_error, text, capacity);

    private static int Put(string words, byte* text, int capacity)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(words);
        int length = int.Min(bytes.Length, capacity - 1);
        bytes.AsSpan(0, length).CopyTo(new Span<byte>(text, length));
        text[length] = 0;
        return 0;
    }

    private static int Failed(Exception failure)
    {
        _error = failure is CudaException or ArgumentException or NotSupportedException or InvalidOperationException ? failure.Message : failure.ToString();
        return -1;
    }
}
