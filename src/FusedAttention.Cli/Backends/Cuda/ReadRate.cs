using System.Runtime.InteropServices;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cli.Backends.Cuda;

/// <summary>
/// The rate at which a device reads its memory, measured: every thread reads 16 bytes at a time, several of them under way, all threads side by side. It is the ceiling of decoding.
/// </summary>
internal static class ReadRate
{
    private const int Threads = 512;
    private const int BlocksOfMultiprocessor = 4;

    /// <summary>Loads of a thread that are under way at once: 64 KB and more a multiprocessor, where the read rate times its delay takes some 40.</summary>
    private const int Loads = 4;

    private const int VectorBytes = 16;

    /// <summary>Well beyond the L2, as long as the device has the room.</summary>
    private const long PreferredBytes = 1L << 30;
    private const int Passes = 4, Trials = 12;

    /// <summary>What nothing that is read adds up to: the store that keeps the reads from being left out is never made.</summary>
    private const int Never = 0x5A17_C0DE;

    private static readonly KernelFunction Function = new("read", "reading", Threads, sharedBytes: 0, static () => Write().ToString());

    /// <summary>GB/s of the best trial; null where the device has no clock.</summary>
    public static double? Measure(CudaDevice device)
    {
        CudaStream stream = device.DefaultStream;
        using IStreamTimer? timer = stream.CreateTimer();
        if (timer is null) return null;
        uint blocks = (uint)(BlocksOfMultiprocessor * device.Multiprocessors);
        long turn = (long)blocks * Threads * Loads * VectorBytes;
        long bytes = Math.Max(1, Math.Min(PreferredBytes, device.MemoryBytes / 8) / turn) * turn;
        using CudaTensor<byte> memory = device.Allocate<byte>((nint)bytes);
        stream.Clear(memory);
        device.Prepare([Function]);
        Block block = new() { Memory = (ulong)memory.DevicePointer, Bytes = bytes, Turn = turn };
        var launch = new KernelLaunch(Function, blocks, 1, 1, MemoryMarshal.AsBytes(new ReadOnlySpan<Block>(in block)));
        double best = double.PositiveInfinity;
        for (int trial = 0; trial < Trials; trial++)
        {
            stream.Launch(launch, memory);
            timer.Start();
            for (int pass = 0; pass < Passes; pass++) stream.Launch(launch, memory);
            timer.Stop();
            best = Math.Min(best, timer.Milliseconds() / Passes);
        }

        return bytes / best / 1e6;
    }

    private static PtxKernel Write()
    {
        var k = new PtxKernel("read", PtxTarget.Sm80, Threads, BlocksOfMultiprocessor, Block.Size);
        I64 place = (I64.Product(k.BlockX(), Threads * VectorBytes) + I64.Product(k.ThreadIndex(), VectorBytes)).As("place");
        var from = new Global(k.Parameter<I64>(Block.MemoryOffset) + place);
        I64 bytes = k.Parameter<I64>(Block.BytesOffset).As("bytes"), turn = k.Parameter<I64>(Block.TurnOffset).As("turn");
        I64 step = I64.From("shr.u64", turn, (I32)2).As("step"), done = k.Variable("done", (I64)0L);
        I64 at = k.Variable("at", from.ToI64());
        I32 all = k.Variable("all", (I32)0);
        k.While("turns", () => done < bytes, () =>
        {
            var loaded = new I32[Loads][];
            for (int i = 0; i < Loads; i++)
            {
                loaded[i] = k.LoadVector<I32>(new Global(at), VectorBytes / 4, ".cs");
                at.Add(step);
            }

            foreach (I32[] vector in loaded)
                all.Set(all ^ vector[0] ^ vector[1] ^ vector[2] ^ vector[3]);
            done.Add(turn);
        });
        k.If(all.Is(Never), () => k.Store(new Global(k.Parameter<I64>(Block.MemoryOffset)), all));
        k.Exit();
        return k;
    }

    /// <summary>The kernel's parameter.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Block
    {
        public const int MemoryOffset = 0, BytesOffset = 8, TurnOffset = 16, Size = 24;

        public ulong Memory;
        public long Bytes;

        /// <summary>Bytes that all threads read before a thread's second turn: <see cref="Loads"/> times what they read side by side.</summary>
        public long Turn;
    }
}
