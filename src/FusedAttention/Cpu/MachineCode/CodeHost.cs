using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using FusedAttention.Diagnostics;

namespace FusedAttention.Cpu.MachineCode;

/// <summary>A kernel that can be called: <c>((delegate* unmanaged&lt;void*, void&gt;)Entry)(block)</c>. The garbage collector does not wait for it, so all that its block points to has to be pinned.</summary>
internal sealed class CompiledKernel(nint entry, int bytes)
{
    public nint Entry => entry;

    public int Bytes => bytes;
}

/// <summary>Machine code in this process: whether it may run and why not, what the processor has for it, and where kernels go.</summary>
internal sealed class CodeHost
{
    private static readonly Lazy<CodeHost> OfThisProcess = new(static () => new(ExecutableMemory.OfThisSystem, Environment.GetEnvironmentVariable));

    // Bytes that the runtime may still write about methods of a process that ends.
    private const int LaterLines = 1 << 16;

    private readonly List<string> _told = [];
    private readonly Func<string, string?> _environment;
    private readonly ExecutableMemory? _memory;
    private readonly Lazy<string?> _tilesRefusal;

    /// <param name="memories">The ways to executable memory, best first.</param>
    /// <param name="environment">The variables of the process.</param>
    public CodeHost(ReadOnlySpan<ExecutableMemory> memories, Func<string, string?> environment)
    {
        _environment = environment;
        _tilesRefusal = new(() =>
        {
            string? refusal = AskForTiles();
            if (IsAvailable) AttentionEventSource.Log.SetMachineCode(true, refusal is null ? $"{State}, with tiles" : $"{State}, without tiles: {refusal}");
            return refusal;
        });
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            State = $"this process is {RuntimeInformation.ProcessArchitecture}, not x86-64";
        }
        else if (!X86Base.X64.IsSupported)
        {
            State = "the runtime is told to use no instructions beyond the common ones";
        }
        else if (memories.IsEmpty)
        {
            State = "no way to executable memory is known for this operating system";
        }
        else
        {
            var refusals = new List<string>();
            foreach (ExecutableMemory memory in memories)
            {
                // The first code that it runs is also the question that only code can ask.
                if (memory.TryPublish(EnabledState.Emit(CallingConvention.Current).ToArray(), out nint entry, out string refusal))
                {
                    _memory = memory;
                    Features = ProcessorFeatures.OfThisMachine(EnabledState.Call(entry));
                    break;
                }

                refusals.Add($"{memory.Name} ({refusal})");
            }

            State = _memory?.Name ?? $"the system refuses {string.Join(" and ", refusals)}";
        }

        AttentionEventSource.Log.SetMachineCode(IsAvailable, State);
    }

    /// <summary>Of this process; asked once, when first needed.</summary>
    public static CodeHost Current => OfThisProcess.Value;

    /// <summary>Whether code can run here.</summary>
    public bool IsAvailable => _memory is not null;

    /// <summary>How code comes to run, or why it does not.</summary>
    public string State { get; }

    public ProcessorFeatures Features { get; }

    /// <summary>Whether kernels may use tiles.</summary>
    public bool MayUseTiles => TilesRefusal is null;

    /// <summary>
    /// Why kernels may not use tiles; null if they may. A process has to ask for them once: their registers are 8 KB more that a signal handler's stack must hold. Only Linux is asked; asked on first use.
    /// </summary>
    public string? TilesRefusal => _tilesRefusal.Value;

    private string? AskForTiles()
    {
        if (!IsAvailable) return State;
        if (!Features.HasTilesOfBFloat16) return "this processor has no tiles of bfloat16 (AMX)";
        if (!OperatingSystem.IsLinux()) return "tiles are used on Linux only";
        if (Linux.syscall(Linux.ArchPrctl, Linux.RequestState, Linux.TileData) == 0) return null;
        Linux.Refused("arch_prctl for tiles", out string refusal);
        return $"the system refuses {refusal}";
    }

    /// <summary>Makes a kernel callable; null if the system refuses it now, having allowed others before: for want of memory, say.</summary>
    public CompiledKernel? Compile(Assembler kernel)
    {
        byte[] code = kernel.ToArray();
        if (_memory is null || !_memory.TryPublish(code, out nint entry, out _)) return null;
        TellProfilers(kernel.Name, entry, code.Length);
        return new(entry, code.Length);
    }

    /// <summary>A line for <c>perf</c>, where the runtime writes lines for its own code.</summary>
    private void TellProfilers(string name, nint entry, int bytes)
    {
        if (!OperatingSystem.IsLinux() || _environment("DOTNET_PerfMapEnabled") is not ("1" or "3")) return;
        string line = string.Create(CultureInfo.InvariantCulture, $"{entry:x} {bytes:x} {name}\n");
        lock (_told)
        {
            if (_told.Count == 0) AppDomain.CurrentDomain.ProcessExit += (_, _) => TellProfilersAgain();
            _told.Add(line);
        }

        Append(line);
    }

    /// <summary>
    /// Once more, at the end of the process: the runtime goes on writing where it left off, over what others have appended. Empty lines, which readers pass over, are what it finds first now.
    /// </summary>
    internal void TellProfilersAgain()
    {
        lock (_told) Append(new string('\n', LaterLines) + string.Concat(_told));
    }

    private void Append(string lines)
    {
        string folder = _environment("DOTNET_PerfMapJitDumpPath") is { Length: > 0 } named ? named : "/tmp";
        try
        {
            using var file = new FileStream(Path.Combine(folder, $"perf-{Environment.ProcessId}.map"), FileMode.Append, FileAccess.Write, FileShare.ReadWrite);
            file.Write(System.Text.Encoding.ASCII.GetBytes(lines));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A profile without names is still one.
        }
    }
}

/// <summary>A kernel that asks which registers the operating system keeps for a thread: XCR0.</summary>
internal static unsafe class EnabledState
{
    public static Assembler Emit(CallingConvention convention)
    {
        var kernel = new Assembler("enabled state", convention);
        Gpr low = kernel.Gpr("low"), high = kernel.Gpr("high"), block = kernel.Gpr("block again");
        kernel.Mov(block, kernel.Block);
        kernel.Mov(kernel.Block, 0);
        kernel.Xgetbv();
        kernel.Mov(block + 0, low.Low);
        kernel.Mov(block + 4, high.Low);
        kernel.Return();
        return kernel;
    }

    public static ulong Call(nint entry)
    {
        ulong state = 0;
        ((delegate* unmanaged<void*, void>)entry)(&state);
        return state;
    }
}
