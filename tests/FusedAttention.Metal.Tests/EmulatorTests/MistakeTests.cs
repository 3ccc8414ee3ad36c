using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests.EmulatorTests;

/// <summary>Mistakes, each in a kernel that is right without it: the right one passes and gives the right result, the wrong one is reported, with its place.</summary>
public sealed class MistakeTests
{
    private const string Neighbours = """
        kernel void neighbours(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
            threadgroup int tile[64];
            tile[i] = values[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            result[i] = tile[(i + 33u) % 64u];
        }
        """;

    private static readonly int[] Numbers = [.. Enumerable.Range(100, 64)];
    private static readonly int[] Shifted = [.. Enumerable.Range(0, 64).Select(i => 100 + ((i + 33) % 64))];

    [Fact]
    public void A_missing_barrier_gives_other_bits_in_another_order()
    {
        Right(Neighbours, "neighbours", Numbers, Shifted);
        string wrong = Neighbours.Replace("    threadgroup_barrier(mem_flags::mem_threadgroup);\n", "", StringComparison.Ordinal);
        Wrong(wrong, "neighbours", EmulatorFlavour.Plain, "gives other bits than the first", "(slot 1)");

        // In a single order it may well pass: the second half here runs after the first.
        const string Ordered = """
            kernel void ordered(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
                threadgroup int total;
                if (simdgroup == 0u) total = simd_sum(values[i]);
                result[i] = simdgroup == 0u ? 1 : total;
            }
            """;
        int[] expected = [.. Enumerable.Range(0, 64).Select(i => i < 32 ? 1 : Numbers[..32].Sum())];
        Right(Ordered, "ordered", Numbers, expected, orders: "forward");
        Wrong(Ordered, "ordered", EmulatorFlavour.Plain, "order reverse gives other bits than the first");
    }

    /// <summary>The optimiser must not conclude from one store of a constant what the memory always holds.</summary>
    [Fact]
    public void A_missing_barrier_after_storing_a_constant_shows()
    {
        const string Text = """
            kernel void constant_store(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
                threadgroup int shared;
                if (i == 5u) shared = 3;
                threadgroup_barrier(mem_flags::mem_threadgroup);
                result[i] = values[i] * shared;
            }
            """;
        Right(Text, "constant_store", Numbers, [.. Numbers.Select(x => 3 * x)]);
        Wrong(Text.Replace("    threadgroup_barrier(mem_flags::mem_threadgroup);\n", "", StringComparison.Ordinal), "constant_store", EmulatorFlavour.Plain, "gives other bits");
    }

    [Fact]
    public void Two_threads_that_write_one_place_show()
    {
        Wrong(Neighbours.Replace("result[i] =", "result[i / 2u] =", StringComparison.Ordinal), "neighbours", EmulatorFlavour.Plain, "or two threads write one place");
    }

    [Fact]
    public void Threadgroups_that_depend_on_their_order_show()
    {
        const string Text = """
            kernel void chained(device int* values [[buffer(0)]], uint2 group [[threadgroup_position_in_grid]]) { values[group.x + 1u] = values[group.x] + 1; }
            """;
        using var kernel = new TestKernel(Text);
        kernel.Input(0, 0, 0, 0, 0).Rebind(0, buffer => buffer with { IsWritten = true });
        Assert.Contains("gives other bits", Assert.Throws<MetalEmulationException>(() => kernel.Run("chained", threads: 1, groups: 3)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_row_out_of_bounds_is_reported_with_its_line()
    {
        const string Text = """
            kernel void rows(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
                int x = values[i < 64u ? i : 0u];
                if (i < 64u) result[i] = x;
            }
            """;
        Right(Text, "rows", Numbers, Numbers, threads: 96);
        string reads = Text.Replace("values[i < 64u ? i : 0u]", "values[i]", StringComparison.Ordinal);
        Right(reads, "rows", Numbers, Numbers, threads: 96); // nobody sees what was read
        Wrong(reads, "rows", EmulatorFlavour.Address, threads: 96, "heap-buffer-overflow", "test.metal:2", "READ of size 4", "thread 64");
        string writes = Text.Replace("if (i < 64u) ", "", StringComparison.Ordinal);
        Wrong(writes, "rows", EmulatorFlavour.Address, threads: 96, "heap-buffer-overflow", "test.metal:3", "WRITE of size 4");
        Wrong(writes, "rows", EmulatorFlavour.Plain, threads: 96, "wrote 1 bytes beyond the end of a buffer (slot 1)");
        Wrong(Text.Replace("values[i < 64u ? i : 0u]", "values[int(i) - 1]", StringComparison.Ordinal), "rows", EmulatorFlavour.Address, threads: 64, "heap-buffer-overflow", "READ of size 4");
    }

    [Fact]
    public void Threadgroup_arrays_have_bounds()
    {
        Right(Neighbours, "neighbours", Numbers, Shifted, EmulatorFlavour.Address);
        Wrong(Neighbours.Replace("(i + 33u) % 64u", "i + 33u", StringComparison.Ordinal), "neighbours", EmulatorFlavour.Address, "out of bounds for type '__local int[64]'", "test.metal:5");
        string throughPointer = Neighbours.Replace("tile[(i + 33u) % 64u]", "*(tile + int(i) + 33)", StringComparison.Ordinal);
        Wrong(throughPointer, "neighbours", EmulatorFlavour.Address, "global-buffer-overflow", "tile");
    }

    [Fact]
    public void Undefined_arithmetic_is_reported()
    {
        Right(Neighbours, "neighbours", Numbers, Shifted, EmulatorFlavour.Address);
        Wrong(Neighbours.Replace("tile[(i + 33u) % 64u]", "tile[i] * 2147483647", StringComparison.Ordinal), "neighbours", EmulatorFlavour.Address, "runtime error: signed integer overflow");
        Wrong(Neighbours.Replace("tile[(i + 33u) % 64u]", "tile[i] / (tile[i] - 103)", StringComparison.Ordinal), "neighbours", EmulatorFlavour.Address, "runtime error: division by zero");
        string vectors = Neighbours.Replace("tile[(i + 33u) % 64u]", "as_type<uint4>(*(device const int4*)(values + (i < 32u ? i : 0u))).x", StringComparison.Ordinal);
        Wrong(vectors, "neighbours", EmulatorFlavour.Address, "runtime error: load of misaligned address", "requires 16 byte alignment");
    }

    [Fact]
    public void A_divergent_barrier_is_reported()
    {
        Right(Neighbours, "neighbours", Numbers, Shifted);
        string wrong = Neighbours.Replace("    threadgroup_barrier", "    if (i < 40u) threadgroup_barrier", StringComparison.Ordinal);
        Wrong(wrong, "neighbours", EmulatorFlavour.Plain, "no thread can go on", "simdgroup 1: lanes ffffff00 have returned", "simdgroup 0: lanes ffffffff wait at test.metal:4");
        const string Two = """
            kernel void two(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
                if (i < 32u) threadgroup_barrier(mem_flags::mem_threadgroup); else threadgroup_barrier(mem_flags::mem_threadgroup);
                result[i] = values[i];
            }
            """;
        Wrong(Two, "two", EmulatorFlavour.Plain, "threads of a threadgroup wait at different barriers", "test.metal:2");
    }

    [Fact]
    public void A_divergent_simdgroup_function_is_reported()
    {
        const string Text = """
            kernel void sums(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
                int sum = simd_sum(values[i]);
                result[i] = sum;
            }
            """;
        Right(Text, "sums", Numbers, [.. Enumerable.Range(0, 64).Select(i => Numbers[(i / 32 * 32)..((i / 32 * 32) + 32)].Sum())]);
        Wrong(Text.Replace("int sum =", "int sum = i % 2u == 0u ? 0 :", StringComparison.Ordinal), "sums", EmulatorFlavour.Plain, "no thread can go on", "lanes 55555555 have returned", "test.metal:2");
        Wrong(Text.Replace("int sum =", "int sum = i % 2u == 0u ? simd_sum(1) :", StringComparison.Ordinal), "sums", EmulatorFlavour.Plain, "lanes of simdgroup 0 are in different simdgroup functions");
        Wrong(Text.Replace("int sum =", "if (i == 3u) return; int sum =", StringComparison.Ordinal), "sums", EmulatorFlavour.Plain, "lanes 00000008 have returned");
        Wrong(Text, "sums", EmulatorFlavour.Plain, threads: 48, "fewer than 32 lanes");
        string shuffled = Text.Replace("simd_sum(values[i])", "simd_shuffle(values[i], ushort(i + 1u))", StringComparison.Ordinal);
        Wrong(shuffled, "sums", EmulatorFlavour.Plain, "a lane index above 31");
    }

    [Fact]
    public void A_divergent_load_of_a_matrix_is_reported()
    {
        const string Text = """
            kernel void squares(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
                threadgroup float tile[64];
                tile[i] = float(values[i]);
                tile[i + 32u] = float(values[i + 32u]);
                threadgroup_barrier(mem_flags::mem_threadgroup);
                simdgroup_matrix<float, 8, 8> m(1.0f);
                if (i < 99u) simdgroup_load(m, tile, 8);
                simdgroup_multiply(m, m, m);
                result[i] = int(m.thread_elements()[0]);
                result[i + 32u] = int(m.thread_elements()[1]);
            }
            """;
        using var right = Prepared(Text, EmulatorFlavour.Plain);
        right.Run("squares", threads: 32);
        Wrong(Text.Replace("i < 99u", "i < 20u", StringComparison.Ordinal), "squares", EmulatorFlavour.Plain, threads: 32, "came through different simdgroup loads or stores", "test.metal:8");
    }

    [Fact]
    public void Memory_that_nobody_wrote_is_reported()
    {
        Right(Neighbours, "neighbours", Numbers, Shifted, EmulatorFlavour.Memory);
        string partly = Neighbours.Replace("    tile[i] =", "    if (i != 7u) tile[i] =", StringComparison.Ordinal);
        Wrong(partly, "neighbours", EmulatorFlavour.Memory, "stored an uninitialised value at byte 152 of a buffer (slot 1)");
        string branch = partly.Replace("tile[(i + 33u) % 64u]", "tile[(i + 33u) % 64u] > 0 ? 1 : 2", StringComparison.Ordinal);
        Right(branch, "neighbours", Numbers, [.. Enumerable.Range(0, 64).Select(i => (i + 33) % 64 == 7 ? 2 : 1)]); // deterministic, and wrong
        Wrong(branch.Replace("result[i] = ", "if (tile[(i + 33u) % 64u] > 0) result[i] = ", StringComparison.Ordinal), "neighbours", EmulatorFlavour.Memory, "use-of-uninitialized-value", "test.metal:5");
        const string Private = """
            kernel void privately(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
                int x[2];
                x[i % 2u] = values[i];
                result[i] = simd_sum(x[1]);
            }
            """;
        Wrong(Private, "privately", EmulatorFlavour.Memory, "use-of-uninitialized-value", "'x");
        using var fresh = new TestKernel(Neighbours, EmulatorFlavour.Memory);
        fresh.Output<int>(0, 64).Rebind(0, buffer => buffer with { IsWritten = false }).Output<int>(1, 64);
        Assert.Equal(Enumerable.Repeat(unchecked((int)EmulatedMemory.Fresh), 64), fresh.Run("neighbours", threads: 64).Read<int>(1)); // copies of what nobody wrote look like it
    }

    /// <summary>Fast math may take infinities for impossible: what tests for one gets another answer, and one kept in bits does not.</summary>
    [Fact]
    public void Reliance_on_infinities_shows_under_fast_math()
    {
        const string Bits = """
            kernel void infinities(device const int* values [[buffer(0)]], device int* result [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
                float x = as_type<float>(0xFF800000u + uint(values[i]) * 0u);
                result[i] = as_type<uint>(x) == 0xFF800000u ? 1 : 0;
            }
            """;
        int[] ones = [.. Enumerable.Repeat(1, 64)];
        Right(Bits, "infinities", Numbers, ones);
        Right(Bits, "infinities", Numbers, ones, EmulatorFlavour.FastMath);
        string test = Bits.Replace("as_type<uint>(x) == 0xFF800000u", "isinf(x)", StringComparison.Ordinal);
        Right(test, "infinities", Numbers, ones);
        Right(test, "infinities", Numbers, new int[64], EmulatorFlavour.FastMath);
    }

    [Fact]
    public void A_launch_may_not_write_what_it_says_it_reads()
    {
        using var kernel = new TestKernel(Neighbours);
        kernel.Input(0, Numbers).Input(1, Numbers).Fails("neighbours", 64, "a buffer that the launch says is only read (slot 1)");
    }

    [Fact]
    public void Endless_loops_are_stopped()
    {
        const string Text = "kernel void endless(device int* x [[buffer(0)]]) { while (x[0] == 0) threadgroup_barrier(mem_flags::mem_device); }";
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        using var runtime = new EmulatedRuntime { Source = _ => TestKernel.TextOf(Text), TimeoutSeconds = 1 };
        using DeviceMemory memory = runtime.Allocate(8);
        ((EmulatedMemory)memory).Span.Clear();
        var launch = new FusedAttention.Metal.Launching.KernelLaunch(
            new(FusedAttention.Metal.Launching.KernelFamily.Plain, "endless", [], []), [new(0, memory, 0, IsWritten: true)], 0, [], new(1, 1, 1), new(1, 1, 1));
        Assert.Contains("stopped after 1 s", Assert.Throws<MetalEmulationException>(() => runtime.Submit([launch])).Message, StringComparison.Ordinal);
    }

    private static TestKernel Prepared(string text, EmulatorFlavour flavour, params string[] orders) => new TestKernel(text, flavour, orders).Input(0, Numbers).Output<int>(1, 64);

    private static void Right(string text, string name, int[] input, int[] expected, EmulatorFlavour flavour = EmulatorFlavour.Plain, int threads = 64, params string[] orders)
    {
        using var kernel = new TestKernel(text, flavour, orders);
        Assert.Equal(expected, kernel.Input(0, input).Output<int>(1, 64).Run(name, threads).Read<int>(1));
    }

    private static void Wrong(string text, string name, EmulatorFlavour flavour, params ReadOnlySpan<string> words) => Wrong(text, name, flavour, 64, words);

    private static void Wrong(string text, string name, EmulatorFlavour flavour, int threads, params ReadOnlySpan<string> words)
    {
        using TestKernel kernel = Prepared(text, flavour);
        kernel.Fails(name, threads, words);
    }
}
