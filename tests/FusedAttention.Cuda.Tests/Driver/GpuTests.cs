using System.Runtime.InteropServices;
using FusedAttention.Cuda.Driver;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Driver;

/// <summary>The driver itself, where there is one.</summary>
[Collection(Fakes.FakeDriver.Collection)]
public sealed unsafe class GpuTests
{
    private const int Threads = 128;

    /// <summary>y[i] = a x[i] + y[i], n elements. The parameters: y, x, n, a.</summary>
    private const string Axpy = """
        .version 7.4
        .target sm_80
        .address_size 64
        .visible .entry axpy(.param .u64 py, .param .u64 px, .param .u32 pn, .param .f32 pa)
        {
            .reg .pred %p;
            .reg .b32 %r<6>;
            .reg .f32 %f<4>;
            .reg .b64 %rd<4>;
            ld.param.u64 %rd0, [py];
            ld.param.u64 %rd1, [px];
            ld.param.u32 %r0, [pn];
            ld.param.f32 %f0, [pa];
            mov.u32 %r1, %ctaid.x;
            mov.u32 %r2, %ntid.x;
            mov.u32 %r3, %tid.x;
            mad.lo.u32 %r4, %r1, %r2, %r3;
            setp.ge.u32 %p, %r4, %r0;
            @%p ret;
            mul.wide.u32 %rd2, %r4, 4;
            add.u64 %rd0, %rd0, %rd2;
            add.u64 %rd1, %rd1, %rd2;
            ld.global.f32 %f1, [%rd1];
            ld.global.f32 %f2, [%rd0];
            fma.rn.f32 %f3, %f0, %f1, %f2;
            st.global.f32 [%rd0], %f3;
            ret;
        }
        """;

    /// <summary>Waits for about so many nanoseconds, then writes 1. The parameters: y, ns.</summary>
    private const string Slow = """
        .version 7.4
        .target sm_80
        .address_size 64
        .visible .entry slow(.param .u64 py, .param .u64 pn)
        {
            .reg .pred %p;
            .reg .b32 %r;
            .reg .b64 %rd<5>;
            ld.param.u64 %rd0, [py];
            ld.param.u64 %rd1, [pn];
            mov.u64 %rd2, %globaltimer;
        again:
            mov.u64 %rd3, %globaltimer;
            sub.u64 %rd4, %rd3, %rd2;
            setp.lt.u64 %p, %rd4, %rd1;
            @%p bra again;
            mov.u32 %r, 0x3f800000;
            st.global.u32 [%rd0], %r;
            ret;
        }
        """;

    private static readonly KernelFunction AxpyFunction = new("axpy", "axpy", Threads, 0, static () => Axpy);
    private static readonly KernelFunction SlowFunction = new("slow", "slow", 1, 0, static () => Slow);

    [Fact]
    public void Devices_say_what_they_are()
    {
        SkipWithoutDevice();
        foreach (CudaDevice device in CudaDevice.All)
        {
            Assert.StartsWith("NVIDIA", device.Name, StringComparison.Ordinal);
            Assert.True(device.ComputeCapability >= new Version(8, 0) && device.Multiprocessors > 0 && device.MemoryBytes > 1L << 30, device.ToString());
            Assert.InRange(device.Description.MaxSharedMemory, 96 << 10, 1 << 20);
            Assert.InRange(device.Description.DriverVersion, 11040, 99999);
        }
    }

    [Fact]
    public void Elements_are_copied_in_and_out()
    {
        CudaDevice device = Device();
        using CudaTensor<int> tensor = device.Allocate<int>(1000, 1001);
        int[] values = [.. Enumerable.Range(0, 1001_000)], read = new int[1001_000];
        tensor.CopyFrom(values);
        tensor.CopyTo(read);
        Assert.Equal(values, read);
        Assert.Equal(0, tensor.DevicePointer % 256);
        using CudaStream stream = device.CreateStream();
        tensor.Slice(3..5, ..).CopyTo(read.AsSpan(0, 2002), stream);
        Assert.Equal(3003, read[0]);
        Assert.False(tensor.IsPending);
    }

    [Fact]
    public void A_kernel_computes()
    {
        CudaDevice device = Device();
        const int N = 100_000;
        using CudaTensor<float> x = device.Allocate<float>(N), y = device.Allocate<float>(N);
        x.CopyFrom([.. Enumerable.Range(0, N).Select(static i => (float)i)]);
        y.CopyFrom([.. Enumerable.Range(0, N).Select(static _ => 1f)]);
        for (int i = 0; i < 3; i++) Launch(device.DefaultStream, y, x, 2);
        float[] read = new float[N];
        y.CopyTo(read);
        for (int i = 0; i < N; i++) Assert.Equal((6f * i) + 1, read[i]);
        LoadedKernel loaded = ((CudaRuntime)device.Runtime).Kernels.Get(AxpyFunction);
        Assert.InRange(loaded.Registers, 1, 32);
        Assert.Equal(0, loaded.LocalBytes);
    }

    [Fact]
    public void Tables_travel_by_pinned_memory_and_counters_are_zero()
    {
        CudaDevice device = Device();
        using CudaStream stream = device.CreateStream();
        float[] read = new float[8];
        using (Submission work = new(stream, []))
        {
            MemoryPlace pinned = work.Pinned.Take(32), scratch = work.Transient.Take(32);
            for (int i = 0; i < 8; i++) ((float*)(pinned.Memory.Pointer + pinned.Offset))[i] = i;
            work.Begin();
            MemoryPlace counters = work.Counters(4096);
            work.CopyToDevice(scratch, pinned, 32);
            work.Copy(scratch, counters, 8);
            fixed (float* first = read)
            {
                work.CopyToHost(first, scratch, 32);
                stream.Wait(work.End());
            }
        }

        Assert.Equal([0, 0, 2, 3, 4, 5, 6, 7], read);
    }

    [Fact]
    public void Streams_run_side_by_side_and_wait_for_what_they_must_not_overtake()
    {
        CudaDevice device = Device();
        using CudaStream a = device.CreateStream(), b = device.CreateStream();
        using CudaTensor<float> x = device.Allocate<float>(1), y = device.Allocate<float>(1);
        x.CopyFrom([0]);
        y.CopyFrom([0]);
        device.Synchronize();
        device.Prepare([SlowFunction, AxpyFunction]);
        LaunchSlow(a, x, milliseconds: 200);
        Launch(b, y, x, 5);
        Assert.True(x.IsPending && y.IsPending);
        float[] read = new float[1];
        y.CopyTo(read);
        Assert.Equal(5, read[0]);
        Assert.False(x.IsPending && y.IsPending);
    }

    [Fact]
    public void Disposing_does_not_wait_for_the_device()
    {
        CudaDevice device = Device();
        using CudaStream stream = device.CreateStream();
        CudaTensor<float> x = device.Allocate<float>(1 << 20), y = device.Allocate<float>(1 << 20);
        device.Prepare([SlowFunction]);
        LaunchSlow(stream, x, milliseconds: 300);
        x.Dispose();
        y.Dispose();                                            // unused: freed at once, while the kernel runs
        using CudaTensor<float> z = device.Allocate<float>(1 << 20);
        Assert.Equal(1, device.Retired.Count);
        stream.Synchronize();
        device.Retired.Collect();
        Assert.Equal(0, device.Retired.Count);
    }

    [Fact]
    public void Text_that_does_not_load_throws_with_the_log()
    {
        CudaDevice device = Device();
        KernelFunction broken = new("axpy", "broken axpy", Threads, 0, static () => Axpy.Replace("fma.rn.f32", "fma.rn.f31", StringComparison.Ordinal));
        string message = Assert.Throws<CudaException>(() => device.Prepare([broken])).Message;
        Assert.StartsWith("The driver refuses kernel broken axpy. cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX (218): ", message, StringComparison.Ordinal);
        Assert.Contains("line 25", message, StringComparison.Ordinal);
        KernelFunction nameless = new("other", "axpy by another name", Threads, 0, static () => Axpy);
        Assert.Contains("CUDA_ERROR_NOT_FOUND", Assert.Throws<CudaException>(() => device.Prepare([nameless])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_context_of_the_callers_stays_current()
    {
        CudaDevice device = Device();
        using CudaTensor<float> first = device.Allocate<float>(4);
        using var own = new OwnDriver();
        nint context = own.CreateContext();
        try
        {
            Assert.Equal(context, own.Current);
            using CudaTensor<float> x = device.Allocate<float>(4), y = device.Allocate<float>(4);
            using CudaStream stream = device.CreateStream();
            x.CopyFrom([1, 2, 3, 4], stream);
            y.CopyFrom([0, 0, 0, 0], stream);
            Launch(stream, y, x, 1);
            float[] read = new float[4];
            y.CopyTo(read, stream);
            Assert.Equal([1, 2, 3, 4], read);
            Assert.Equal(context, own.Current);
        }
        finally
        {
            own.DestroyContext(context);
        }

        Assert.Equal(0, own.Current);
    }

    [Fact]
    public void Streams_of_the_callers_and_their_graphs()
    {
        CudaDevice device = Device();
        using var own = new OwnDriver();
        using CudaTensor<float> x = device.Allocate<float>(4), y = device.Allocate<float>(4);
        x.CopyFrom([1, 2, 3, 4]);
        y.CopyFrom([0, 0, 0, 0]);
        device.Synchronize();
        device.Prepare([AxpyFunction]);
        own.Use(device, context =>
        {
            nint handle = own.CreateStream();
            using (CudaStream stream = device.WrapStream(handle))
            {
                Launch(stream, y, x, 1);
                stream.Synchronize();
                own.BeginCapture(handle);
                Assert.True(stream.IsCapturing);
                Launch(stream, y, x, 1);

                // What no graph can have does not end the capture.
                device.Allocate<float>(1 << 20).Dispose();
                device.Prepare([new("slow", "slow again", 1, 0, static () => Slow)]);
                Assert.False(device.DefaultStream.IsCapturing);
                x.Wait();
                nint graph = own.EndCapture(handle);
                Assert.False(stream.IsCapturing);
                for (int i = 0; i < 3; i++) own.LaunchGraph(graph, handle);
                stream.Synchronize();
                own.DestroyGraph(graph);
            }

            own.DestroyStream(handle);
        });
        float[] read = new float[4];
        y.CopyTo(read);
        Assert.Equal([4, 8, 12, 16], read);
    }

    [Fact]
    public void Too_much_memory_is_refused_and_the_device_works_on()
    {
        CudaDevice device = Device();
        Assert.Throws<CudaException>(() => device.Allocate<byte>((nint)(device.MemoryBytes + 1)));
        Assert.Contains("CUDA_ERROR_OUT_OF_MEMORY (2)", Assert.Throws<CudaException>(() => device.Allocate<byte>((nint)device.MemoryBytes)).Message, StringComparison.Ordinal);
        using CudaTensor<byte> tensor = device.Allocate<byte>(1 << 20);
        tensor.CopyFrom(new byte[1 << 20]);
        tensor.Wait();
    }

    [Fact]
    public void In_steady_state_nothing_is_allocated()
    {
        CudaDevice device = Device();
        using CudaTensor<float> x = device.Allocate<float>(400), y = device.Allocate<float>(400);
        x.CopyFrom(new float[400]);
        y.CopyFrom(new float[400]);
        float[] read = new float[400];
        using CudaStream stream = device.CreateStream();
        Allocations.AssertNone(() =>
        {
            Launch(stream, y, x, 1);
            y.CopyTo(read);
        });
    }

    private static CudaDevice Device()
    {
        SkipWithoutDevice();
        return CudaDevice.Default;
    }

    private static void SkipWithoutDevice() => Assert.SkipUnless(CudaDevice.IsSupported, CudaDevice.UnsupportedReason ?? "");

    private static void Launch(CudaStream stream, CudaTensor<float> y, CudaTensor<float> x, float factor)
    {
        Uses two = new() { First = new(y.Memory, IsWritten: true), Second = new(x.Memory, IsWritten: false) };
        using Submission work = new(stream, two.All);
        work.Begin();
        AxpyParameters parameters = new() { Y = y.Address, X = x.Address, N = (uint)y.FlattenedLength, A = factor };
        work.Launch(new(AxpyFunction, ((uint)y.FlattenedLength + Threads - 1) / Threads, 1, 1, new ReadOnlySpan<byte>(&parameters, sizeof(AxpyParameters))));
        work.End();
    }

    private static void LaunchSlow(CudaStream stream, CudaTensor<float> y, ulong milliseconds)
    {
        MemoryUse[] uses = [new(y.Memory, IsWritten: true)];
        using Submission work = new(stream, uses);
        work.Begin();
        ulong* parameters = stackalloc ulong[] { y.Address, milliseconds * 1_000_000 };
        work.Launch(new(SlowFunction, 1, 1, 1, new ReadOnlySpan<byte>(parameters, 16)));
        work.End();
    }

    private ref struct Uses
    {
        public MemoryUse First;
        public MemoryUse Second;

        [System.Diagnostics.CodeAnalysis.UnscopedRef]
        public readonly ReadOnlySpan<MemoryUse> All => MemoryMarshal.CreateReadOnlySpan(in First, 2);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct AxpyParameters
    {
        public ulong Y;
        public ulong X;
        public uint N;
        public float A;
    }
}
