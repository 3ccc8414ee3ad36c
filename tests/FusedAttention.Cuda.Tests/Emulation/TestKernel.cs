using System.Globalization;
using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Runtime;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>A kernel that a test brings along, in the emulator: memory with numbers in, one launch, numbers out.</summary>
internal sealed unsafe class TestKernel : IDisposable
{
    private readonly EmulatedRuntime _runtime;
    private readonly List<CudaMemory> _memory = [];

    public TestKernel(LaunchOrder? order = null, long mostInstructions = 2_000_000) =>
        _runtime = new() { Orders = [order ?? LaunchOrder.Forward], MostInstructions = mostInstructions, Device = new(0, "Emulated H100", 9, 0, 132, 232448, 1L << 32, 13000) };

    public EmulatedRuntime Runtime => _runtime;

    /// <summary>A kernel around a body: parameters are addresses, p0, p1 and so on, which %rd0, %rd1 and so on hold; %r0 is the thread, %r1 where shared memory begins.</summary>
    public static string Text(string body, int parameters, int threads = 32, string target = "sm_90a")
    {
        string list = string.Join(", ", Enumerable.Range(0, parameters).Select(static n => string.Create(CultureInfo.InvariantCulture, $".param .u64 p{n}")));
        string loads = string.Concat(Enumerable.Range(0, parameters).Select(static n => string.Create(CultureInfo.InvariantCulture, $"ld.param.u64 %rd{n}, [p{n}];\n")));
        return $$"""
            .version 8.0
            .target {{target}}
            .address_size 64
            .extern .shared .align 1024 .b8 smem[];
            .visible .entry test({{list}})
            .maxntid {{threads}}, 1, 1
            {
            .reg .pred %p<16>;
            .reg .b16 %h<16>;
            .reg .b32 %r<64>;
            .reg .f32 %f<256>;
            .reg .b64 %rd<32>;
            {{loads}}
            mov.u32 %r0, %tid.x;
            mov.u32 %r1, smem;
            {{body}}
            ret;
            }
            """;
    }

    /// <summary>Memory that holds some bytes.</summary>
    public CudaMemory Memory<T>(params ReadOnlySpan<T> values)
        where T : unmanaged
    {
        CudaMemory memory = Unwritten((long)values.Length * sizeof(T));
        ICudaStream stream = _runtime.CreateStream();
        fixed (T* first = values) stream.CopyToDevice(new(memory, 0), first, memory.Bytes);
        stream.Wait(stream.EndSubmission());
        stream.Dispose();
        return memory;
    }

    /// <summary>Memory that nobody has written.</summary>
    public CudaMemory Unwritten(long bytes)
    {
        CudaMemory memory = _runtime.Allocate(bytes);
        _memory.Add(memory);
        return memory;
    }

    public T[] Read<T>(CudaMemory memory)
        where T : unmanaged
    {
        var values = new T[memory.Bytes / sizeof(T)];
        using ICudaStream stream = _runtime.CreateStream();
        fixed (T* first = values)
        {
            stream.CopyToHost(first, new(memory, 0), memory.Bytes);
            stream.Wait(stream.EndSubmission());
        }

        return values;
    }

    /// <summary>Runs a body with the addresses of some memory.</summary>
    public void Run(string body, CudaMemory[] memory, int threads = 32, int blocks = 1, int sharedBytes = 0) =>
        Launch(Text(body, memory.Length, threads), [.. memory.Select(static m => m.Address)], threads, blocks, sharedBytes);

    public void Launch(string text, ulong[] parameters, int threads = 32, int blocks = 1, int sharedBytes = 0)
    {
        var function = new KernelFunction("test", "test kernel", threads, sharedBytes, () => text);
        fixed (ulong* first = parameters)
        {
            ulong none = 0;
            _runtime.Run(function, (blocks, 1, 1), (byte*)(parameters.Length == 0 ? &none : first), parameters.Length * sizeof(ulong));
        }
    }

    /// <summary>What an instruction gives in each of 32 lanes, whose operands a, b and c are in %r2 to %r4 and %f2 to %f4, or in %rd20 to %rd22 and the result in %rd23, if they have 64 bits.</summary>
    public static TResult[] Lanes<TOperand, TResult>(string instruction, TOperand[] a, TOperand[]? b = null, TOperand[]? c = null)
        where TOperand : unmanaged
        where TResult : unmanaged
    {
        using var kernel = new TestKernel();
        int bytes = sizeof(TOperand), resultBytes = sizeof(TResult);
        CudaMemory result = kernel.Unwritten(32 * resultBytes);
        string load = bytes == 8
            ? "ld.global.b64 %rd20, [%rd10]; ld.global.b64 %rd21, [%rd11]; ld.global.b64 %rd22, [%rd12];"
            : "ld.global.b32 %r2, [%rd10]; ld.global.b32 %r3, [%rd11]; ld.global.b32 %r4, [%rd12]; mov.b32 %f2, %r2; mov.b32 %f3, %r3; mov.b32 %f4, %r4;";
        string store = typeof(TResult) == typeof(float) ? "st.global.f32 [%rd13], %f5;" : resultBytes == 8 ? "st.global.b64 [%rd13], %rd23;" : "st.global.b32 [%rd13], %r5;";
        string body = $$"""
            mul.wide.u32 %rd4, %r0, {{bytes}}; mul.wide.u32 %rd5, %r0, {{resultBytes}};
            add.u64 %rd10, %rd0, %rd4; add.u64 %rd11, %rd1, %rd4; add.u64 %rd12, %rd2, %rd4; add.u64 %rd13, %rd3, %rd5;
            {{load}}
            {{instruction}}
            {{store}}
            """;
        kernel.Run(body, [kernel.Memory<TOperand>(a), kernel.Memory<TOperand>(b ?? a), kernel.Memory<TOperand>(c ?? a), result]);
        return kernel.Read<TResult>(result);
    }

    /// <summary>A number in one of the formats of 16 bits, <c>f16</c> or <c>bf16</c>, exactly.</summary>
    public static ushort Bits(string type, float value) => type is "f16" ? BitConverter.HalfToUInt16Bits((Half)value) : (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16);

    /// <summary>Somebody else has freed it.</summary>
    public void Forget(CudaMemory memory) => _memory.Remove(memory);

    public void Dispose()
    {
        foreach (CudaMemory memory in _memory) memory.Dispose();
        _runtime.Dispose();
    }
}
