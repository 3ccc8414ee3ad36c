using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests.EmulatorTests;

/// <summary>Functions across lanes, and barriers, in two simdgroups at once.</summary>
public sealed class SimdgroupTests
{
    private static readonly int[] Values = [.. Enumerable.Range(0, 64).Select(i => (((i * 37) + 11) % 64) - 20)];

    [Fact]
    public void Reductions_and_shuffles()
    {
        (string Expression, Func<int, int> Expected)[] functions =
        [
            ("simd_sum(x)", i => OfSimdgroup(i).Sum()),
            ("simd_max(x)", i => OfSimdgroup(i).Max()),
            ("simd_min(x)", i => OfSimdgroup(i).Min()),
            ("simd_and(x)", i => OfSimdgroup(i).Aggregate((a, b) => a & b)),
            ("simd_or(x)", i => OfSimdgroup(i).Aggregate((a, b) => a | b)),
            ("simd_xor(x)", i => OfSimdgroup(i).Aggregate((a, b) => a ^ b)),
            ("simd_product(x % 2 == 0 ? 1 : -1)", i => OfSimdgroup(i).Aggregate(1, (a, b) => b % 2 == 0 ? a : -a)),
            ("simd_shuffle(x, ushort((lane * 5u + 3u) & 31u))", i => Lane(i, (((i % 32) * 5) + 3) & 31)),
            ("simd_shuffle_xor(x, ushort(9))", i => Lane(i, (i % 32) ^ 9)),
            ("simd_shuffle_up(x, ushort(3))", i => i % 32 < 3 ? Values[i] : Values[i - 3]),
            ("simd_shuffle_down(x, ushort(3))", i => i % 32 > 28 ? Values[i] : Values[i + 3]),
            ("simd_shuffle_rotate_up(x, ushort(3))", i => Lane(i, (i - 3) & 31)),
            ("simd_shuffle_rotate_down(x, ushort(3))", i => Lane(i, (i + 3) & 31)),
            ("simd_broadcast(x, ushort(17))", i => Lane(i, 17)),
            ("simd_broadcast_first(x)", i => Lane(i, 0)),
            ("simd_prefix_inclusive_sum(x)", i => OfSimdgroup(i).Take((i % 32) + 1).Sum()),
            ("simd_prefix_exclusive_sum(x)", i => OfSimdgroup(i).Take(i % 32).Sum()),
            ("int(ulong(simd_ballot(x > 0)))", i => (int)OfSimdgroup(i).Select((x, lane) => x > 0 ? 1u << lane : 0).Aggregate((a, b) => a | b)),
            ("int(simd_all(x > -21))", _ => 1),
            ("int(simd_all(x > -20))", i => OfSimdgroup(i).All(x => x > -20) ? 1 : 0),
            ("int(simd_any(x == -20))", i => OfSimdgroup(i).Any(x => x == -20) ? 1 : 0),
            ("int(simd_is_first())", i => i % 32 == 0 ? 1 : 0),
            ("quad_sum(x)", i => Values[(i & ~3)..((i & ~3) + 4)].Sum()),
            ("quad_max(x)", i => Values[(i & ~3)..((i & ~3) + 4)].Max()),
            ("quad_broadcast(x, ushort(2))", i => Values[(i & ~3) + 2]),
            ("quad_shuffle_xor(x, ushort(1))", i => Values[i ^ 1]),
            ("int(simd_sum(float(x)))", i => OfSimdgroup(i).Sum()),
            ("int(simd_max(half(x)))", i => OfSimdgroup(i).Max()),
            ("int(simd_shuffle_xor(float4(0.0f, 1.0f, 2.0f, float(x)), ushort(4)).w)", i => Lane(i, (i % 32) ^ 4)),
        ];
        using var kernel = new TestKernel($$"""
            kernel void all(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
                int x = values[i];
                device int* r = result + i * {{functions.Length}}u;
                {{string.Join('\n', functions.Select((function, n) => $"r[{n}] = {function.Expression};"))}}
            }
            """);
        kernel.Input(0, Values).Output<int>(1, 64 * functions.Length).Run("all", threads: 64);
        int[] results = kernel.Read<int>(1);
        for (int i = 0; i < 64; i++)
        {
            for (int n = 0; n < functions.Length; n++)
            {
                Assert.True(functions[n].Expected(i) == results[(i * functions.Length) + n], $"{functions[n].Expression} in thread {i}: {results[(i * functions.Length) + n]} and not {functions[n].Expected(i)}");
            }
        }

        static int[] OfSimdgroup(int i) => Values[(i / 32 * 32)..((i / 32 * 32) + 32)];
        static int Lane(int i, int lane) => Values[(i / 32 * 32) + lane];
    }

    /// <summary>1,024 threads reverse 4,096 numbers again and again through threadgroup memory.</summary>
    [Fact]
    public void Barriers_order_threadgroup_memory()
    {
        using var kernel = new TestKernel("""
            kernel void reverse(device int* values [[buffer(0)]], uint i [[thread_index_in_threadgroup]], uint2 group [[threadgroup_position_in_grid]]) {
                threadgroup int tile[1024];
                int x = values[group.x * 1024u + i];
                for (int round = 0; round < 7; round++) {
                    tile[i] = x;
                    threadgroup_barrier(mem_flags::mem_threadgroup);
                    x = tile[1023u - i] + simd_sum(1) / 32;
                    threadgroup_barrier(mem_flags::mem_threadgroup);
                }
                values[group.x * 1024u + i] = x;
            }
            """);
        kernel.Input(0, Enumerable.Range(0, 4096).ToArray()).Rebind(0, buffer => buffer with { IsWritten = true }).Run("reverse", threads: 1024, groups: 4);
        Assert.Equal(Enumerable.Range(0, 4096).Select(i => (i / 1024 * 1024) + 1023 - (i % 1024) + 7), kernel.Read<int>(0));
    }

    /// <summary>Lanes of a simdgroup may be at a barrier while those of another are still at work, or have left a loop earlier.</summary>
    [Fact]
    public void Simdgroups_may_differ_in_what_they_do()
    {
        using var kernel = new TestKernel("""
            kernel void uneven(device int* result [[buffer(0)]], uint i [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
                threadgroup int sums[4];
                int x = 0;
                for (uint n = 0; n <= simdgroup; n++) x += simd_sum(int(n));
                if ((i & 31u) == 0u) sums[simdgroup] = x;
                threadgroup_barrier(mem_flags::mem_threadgroup);
                if (simdgroup == 3u) return;
                result[i] = sums[3] + simd_max(sums[simdgroup]);
            }
            """);
        kernel.Output<int>(0, 96).Run("uneven", threads: 128);
        Assert.Equal(Enumerable.Range(0, 96).Select(i => (32 * 6) + (32 * (i / 32 * ((i / 32) + 1) / 2))), kernel.Read<int>(0));
    }

    [Fact]
    public void Threadgroup_memory_is_poisoned_before_each_threadgroup()
    {
        using var kernel = new TestKernel("""
            kernel void leftovers(device uint* result [[buffer(0)]], uint2 group [[threadgroup_position_in_grid]]) {
                threadgroup uint left[2];
                result[group.x] = left[1];
                left[1] = 5u;
            }
            """);
        kernel.Output<uint>(0, 3).Run("leftovers", threads: 1, groups: 3);
        Assert.Equal([uint.MaxValue, uint.MaxValue, uint.MaxValue], kernel.Read<uint>(0));
    }

    [Fact]
    public void Atomics_count()
    {
        using var kernel = new TestKernel("""
            kernel void count(device atomic_uint* total [[buffer(0)]], uint i [[thread_position_in_grid]]) {
                if (i % 3u == 0u) atomic_fetch_add_explicit(total, 1u, memory_order_relaxed);
            }
            """);
        kernel.Input(0, 0).Rebind(0, buffer => buffer with { IsWritten = true }).Run("count", threads: 64, groups: 3);
        Assert.Equal([64], kernel.Read<int>(0));
    }

    [Fact]
    public void Function_constants_make_buffers_conditional()
    {
        const string Text = """
            FUNCTION_CONSTANT(bool, has_extra, 0);
            kernel void conditional(device int* result [[buffer(0)]], device const int* extra [[buffer(1), function_constant(has_extra)]]) {
                result[0] = has_extra ? extra[0] : 3;
            }
            """;
        using var without = new TestKernel(Text);
        Assert.Equal([3], without.Constant(0, "has_extra", FunctionConstantType.Bool, 0).Output<int>(0, 1).Run("conditional", threads: 1).Read<int>(0));
        using var with = new TestKernel(Text);
        Assert.Equal([8], with.Constant(0, "has_extra", FunctionConstantType.Bool, 1).Output<int>(0, 1).Input(1, 8).Run("conditional", threads: 1).Read<int>(0));
        using var missing = new TestKernel(Text);
        missing.Constant(0, "has_extra", FunctionConstantType.Bool, 1).Output<int>(0, 1).Fails("conditional", 1, "nothing is bound to slot 1 (extra)");
    }
}
