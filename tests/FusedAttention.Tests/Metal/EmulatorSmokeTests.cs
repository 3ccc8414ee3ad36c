using System.Runtime.InteropServices;
using FusedAttention.Metal.Launching;
using FusedAttention.Tests.Metal.Emulation;
using Xunit;

namespace FusedAttention.Tests.Metal;

public sealed class EmulatorSmokeTests(ITestOutputHelper output)
{
    private const string Text = """
        #include <metal_stdlib>
        #include <metal_simdgroup_matrix>
        using namespace metal;
        #ifdef FUSED_ATTENTION_EMULATOR
        #define FUNCTION_CONSTANT(type, name, index) extern constant type name
        #endif
        FUNCTION_CONSTANT(bool, twice, 3);
        struct Parameters { int count; float scale; };
        #line 1 "scale.metal"
        kernel void scale(const device float* input [[buffer(0)]], device float* result [[buffer(1)]], constant Parameters& parameters [[buffer(14)]],
                          uint2 group [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
            threadgroup float tile[64];
            threadgroup float total;
            const uint i = group.x * 64u + thread_index;
            tile[thread_index] = i < uint(parameters.count) ? input[i] * parameters.scale : 0.0f;
            if (thread_index == 0) total = 3.0f;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            const float4 v = float4(tile[63u - thread_index], 0.0f, 0.0f, 1.0f);
            const float sum = simd_sum(tile[thread_index]);
            if (i < uint(parameters.count)) result[i] = v.x * (twice ? 2.0f : 1.0f) + 0.0f * (sum + total);
        }
        """;

    [Fact]
    public void A_launch_runs()
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        foreach (EmulatorFlavour flavour in Enum.GetValues<EmulatorFlavour>())
        {
            using var runtime = new EmulatedRuntime(flavour) { Source = _ => Text };
            var function = new KernelFunction(KernelFamily.Plain, "scale", [], [new FunctionConstant(3, "twice", FunctionConstantType.Bool, 1)]);
            long start = System.Diagnostics.Stopwatch.GetTimestamp();
            runtime.Prepare(function);
            output.WriteLine($"{flavour}: compiled in {System.Diagnostics.Stopwatch.GetElapsedTime(start).TotalMilliseconds:F0} ms");
            using DeviceMemory input = runtime.Allocate(128 * 4), result = runtime.Allocate(128 * 4);
            Span<float> values = MemoryMarshal.Cast<byte, float>(((EmulatedMemory)input).Span);
            for (int i = 0; i < 128; i++) values[i] = i;
            byte[] parameters = [.. BitConverter.GetBytes(128), .. BitConverter.GetBytes(0.5f)];
            for (int i = 0; i < 5; i++)
            {
                start = System.Diagnostics.Stopwatch.GetTimestamp();
                runtime.Submit([new KernelLaunch(function, [new BufferBinding(0, input, 0, false), new BufferBinding(1, result, 0, true)], 14, [.. parameters], new GridSize(2, 1, 1), new GridSize(64, 1, 1))]);
                output.WriteLine($"{flavour}: {System.Diagnostics.Stopwatch.GetElapsedTime(start).TotalMilliseconds:F1} ms");
            }

            Span<float> results = MemoryMarshal.Cast<byte, float>(((EmulatedMemory)result).Span);
            for (int i = 0; i < 128; i++) Assert.Equal((64 * (i / 64)) + 63 - (i % 64), results[i]);
        }
    }
}
