using FusedAttention.Cuda.Emulation;
using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Launching;
using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>Faults that are planted, each of which the emulator must find, whatever the order in which warps run; and beside each the same kernel without it.</summary>
public sealed class SanitizerTests
{
    private const string Prologue = "shl.b32 %r2, %r0, 2; add.u32 %r2, %r2, %r1; cvt.u64.u32 %rd4, %r0; shl.b64 %rd4, %rd4, 2; add.u64 %rd5, %rd0, %rd4;";

    /// <summary>Of one warp, whose parameter is memory of 128 bytes that were written.</summary>
    [Theory]
    [InlineData("ld.global.u32 %r3, [%rd5];", "ld.global.u32 %r3, [%rd5+4];", "lane 31", "reads 4 bytes of device memory", "It is 0 bytes behind the end of")]
    [InlineData("st.global.u32 [%rd5], 1;", "st.global.u32 [%rd5-4];", "", "1 operands are too few", "")]
    [InlineData("st.global.u32 [%rd5], 1;", "st.global.u32 [%rd5-4], 1;", "lane 0", "writes 4 bytes of device memory", "It is 4 bytes before")]
    [InlineData("ld.global.u32 %r3, [%rd5];", "mov.u64 %rd5, 0; ld.global.u32 %r3, [%rd5];", "lane 0", "no allocation has it", "")]
    [InlineData("ld.global.u32 %r3, [%rd5];", "ld.global.u32 %r3, [%rd5+2];", "lane 0", "no multiple of 4", "")]
    [InlineData("ld.global.v2.u32 {%r3, %r4}, [%rd0];", "ld.global.v2.u32 {%r3, %r4}, [%rd0+4];", "lane 0", "no multiple of 8", "")]
    [InlineData("st.shared.u32 [%r2], 1; ld.shared.u32 %r3, [%r2];", "st.shared.u32 [%r2], 1; ld.shared.u32 %r3, [%r2+128];", "lane 0", "that nobody has written", "")]
    [InlineData("st.shared.u32 [%r2+128], 1;", "st.shared.u32 [%r2+132], 1;", "lane 31", "there are 256 bytes", "")]
    [InlineData("st.shared.u16 [%r2], %h0; ld.shared.u16 %h1, [%r2];", "st.shared.u16 [%r2], %h0; ld.shared.u32 %r3, [%r2];", "lane 0", "reads 4 bytes of shared memory at 0 that nobody has written", "")]
    [InlineData("st.shared.u32 [%r2], 1; bar.warp.sync 0xffffffff; ld.shared.u32 %r3, [%r1+4];", "st.shared.u32 [%r2], 1; ld.shared.u32 %r3, [%r1+4];", "lane 0", "warp 0, lane 1, has written without a barrier", "")]
    [InlineData("st.shared.u32 [%r2], 1; bar.warp.sync 0xffffffff; ld.shared.u32 %r3, [%r1+4]; bar.warp.sync 0xffffffff; st.shared.u32 [%r2], 2;", "st.shared.u32 [%r2], 1; bar.warp.sync 0xffffffff; ld.shared.u32 %r3, [%r1+4]; st.shared.u32 [%r2], 2;", "lane 1", "warp 0 has read without a barrier", "")]
    [InlineData("setp.eq.u32 %p0, %r0, 0; @%p0 st.shared.u32 [%r1], %r0;", "st.shared.u32 [%r1], %r0;", "lane 1", "warp 0, lane 0, has written without a barrier", "")]
    [InlineData("cp.async.ca.shared.global [%r2], [%rd5], 4; cp.async.commit_group; cp.async.wait_group 0; ld.shared.u32 %r3, [%r2];", "cp.async.ca.shared.global [%r2], [%rd5], 4; cp.async.commit_group; ld.shared.u32 %r3, [%r2]; cp.async.wait_group 0;", "lane 0", "a copy is still under way to", "")]
    [InlineData("cp.async.ca.shared.global [%r2], [%rd5], 4; cp.async.commit_group; cp.async.wait_group 0;", "cp.async.ca.shared.global [%r2], [%rd5], 4; cp.async.commit_group; cp.async.wait_group 1;", "lane 0", "nobody has waited for", "")]
    [InlineData("cp.async.ca.shared.global [%r2], [%rd5], 4, 0; cp.async.commit_group; cp.async.wait_all;", "cp.async.ca.shared.global [%r2], [%rd5+400], 4, 1; cp.async.commit_group; cp.async.wait_all;", "lane 0", "reads 1 bytes of device memory", "")]
    [InlineData("bar.sync 0;", "setp.lt.u32 %p0, %r0, 16; @%p0 bra $HALF; bar.sync 0; bra $END; $HALF: bar.sync 0; $END:", "", "all lanes run together", "")]
    [InlineData("shfl.sync.bfly.b32 %r3, %r0, 1, 31, 0xffffffff;", "setp.lt.u32 %p0, %r0, 16; @%p0 shfl.sync.bfly.b32 %r3, %r0, 1, 31, 0xffffffff;", "", "of which only 0x0000ffff come", "")]
    [InlineData("bra.uni $NEXT; $NEXT:", "setp.lt.u32 %p0, %r0, 16; @%p0 bra.uni $NEXT; $NEXT:", "", "all lanes take it or none", "")]
    [InlineData("ld.param.u64 %rd6, [p0];", "mov.b64 %rd6, p0; cvta.param.u64 %rd6, %rd6; ld.u64 %rd7, [%rd6+8];", "lane 0", "reads 8 bytes at 8 of the kernel's 8 bytes of parameters", "")]
    [InlineData("mov.b64 %rd6, p0; cvta.param.u64 %rd6, %rd6; ld.u64 %rd7, [%rd6];", "trap;", "lane 0", "ends the kernel", "")]
    [InlineData("st.shared.u32 [%r2], 1; bar.warp.sync 0xffffffff; red.shared.add.u32 [%r1], 1; bar.warp.sync 0xffffffff; ld.shared.u32 %r3, [%r1];", "st.shared.u32 [%r2], 1; bar.warp.sync 0xffffffff; red.shared.add.u32 [%r1], 1; ld.shared.u32 %r3, [%r1];", "lane 0", "has added without a barrier", "")]
    public void Faults_of_a_warp_are_found(string right, string wrong, string lane, string message, string more)
    {
        Run(right, LaunchOrder.Forward);
        string found = Assert.Throws<CudaEmulationException>(() => Run(wrong, LaunchOrder.Forward)).Message;
        Assert.Contains(message, found, StringComparison.Ordinal);
        Assert.Contains(more, found, StringComparison.Ordinal);
        Assert.Contains(lane, found, StringComparison.Ordinal);
        Assert.Contains("line ", found, StringComparison.Ordinal);

        static void Run(string body, LaunchOrder order)
        {
            using var kernel = new TestKernel(order);
            kernel.Run(Prologue + "mov.u16 %h0, 1;" + body, [kernel.Memory<uint>(new uint[32])], sharedBytes: 256);
        }
    }

    /// <summary>Of four warps.</summary>
    [Theory]
    [InlineData("st.shared.u32 [%r2], 1; bar.sync 0; ld.shared.u32 %r3, [%r4];", "st.shared.u32 [%r2], 1; bar.warp.sync 0xffffffff; ld.shared.u32 %r3, [%r4];", "nobody has written|without a barrier")]
    [InlineData("st.shared.u32 [%r2], 1; bar.sync 0; ld.shared.u32 %r3, [%r4]; bar.sync 0; st.shared.u32 [%r2], 1;", "st.shared.u32 [%r2], 1; bar.sync 0; ld.shared.u32 %r3, [%r4]; st.shared.u32 [%r2], 1;", "without a barrier")]
    [InlineData("setp.lt.u32 %p0, %r0, 32; @%p0 st.shared.u32 [%r3], 1;", "st.shared.u32 [%r3], 1;", "without a barrier")]
    [InlineData("cp.async.ca.shared.global [%r2], [%rd5], 4; cp.async.wait_all; bar.sync 0; ld.shared.u32 %r3, [%r4];", "cp.async.ca.shared.global [%r2], [%rd5], 4; bar.sync 0; ld.shared.u32 %r3, [%r4]; cp.async.wait_all;", "a copy is still under way|nobody has written|without a barrier")]
    [InlineData("bar.sync 0; bar.sync 0;", "bar.sync 0; setp.lt.u32 %p0, %r0, 32; @%p0 bar.sync 0;", "no warp of block (0, 0, 0) can go on. warp 0 waits at barrier 0")]
    [InlineData("bar.sync 1, 128;", "setp.lt.u32 %p0, %r0, 32; selp.b32 %r3, 96, 128, %p0; bar.sync 1, %r3;", "others there wait for")]
    public void Faults_between_warps_are_found_in_every_order(string right, string wrong, string messages)
    {
        foreach (LaunchOrder order in FlowTests.Orders)
        {
            Run(right, order);
            string found = Assert.Throws<CudaEmulationException>(() => Run(wrong, order)).Message;
            Assert.True(messages.Split('|').Any(message => found.Contains(message, StringComparison.Ordinal)), found);
        }

        static void Run(string body, LaunchOrder order)
        {
            using var kernel = new TestKernel(order);
            string neighbour = "add.u32 %r4, %r0, 32; and.b32 %r4, %r4, 127; shl.b32 %r4, %r4, 2; add.u32 %r4, %r4, %r1; and.b32 %r3, %r0, 31; shl.b32 %r3, %r3, 2; add.u32 %r3, %r3, %r1;";
            kernel.Run(Prologue + neighbour + body, [kernel.Memory<uint>(new uint[128])], threads: 128, sharedBytes: 512);
        }
    }

    [Fact]
    public void Memory_that_nobody_wrote_is_not_read_and_shows()
    {
        using var kernel = new TestKernel();
        CudaMemory memory = kernel.Unwritten(64);
        Assert.Contains("that nobody has written, 0 bytes into", Assert.Throws<CudaEmulationException>(() => kernel.Run("ld.global.u32 %r2, [%rd0];", [memory])).Message, StringComparison.Ordinal);
        kernel.Run("setp.lt.u32 %p0, %r0, 15; mul.wide.u32 %rd1, %r0, 4; add.u64 %rd0, %rd0, %rd1; @%p0 st.global.u32 [%rd0], %r0;", [memory]);
        Assert.Equal(60, kernel.Runtime.FirstUnwritten(memory));
        kernel.Run("st.global.u32 [%rd0+60], 1;", [memory]);
        Assert.Equal(-1, kernel.Runtime.FirstUnwritten(memory));
    }

    [Fact]
    public void Memory_that_was_freed_is_not_read()
    {
        using var kernel = new TestKernel();
        CudaMemory memory = kernel.Memory<uint>(new uint[32]);
        ulong address = memory.Address;
        kernel.Runtime.Free((FusedAttention.Cuda.Emulation.Runtime.EmulatedMemory)memory);
        string found = Assert.Throws<CudaEmulationException>(() => kernel.Launch(TestKernel.Text("ld.global.u32 %r2, [%rd0+8];", 1), [address])).Message;
        Assert.Contains("that is 8 bytes into memory that was freed", found, StringComparison.Ordinal);
        kernel.Forget(memory);
    }

    /// <summary>A register that one path does not write is NaN there, in each block anew.</summary>
    [Fact]
    public void Registers_that_nobody_wrote_are_not_numbers()
    {
        using var kernel = new TestKernel();
        CudaMemory result = kernel.Unwritten(64 * sizeof(float));
        kernel.Run(
            """
            mov.u32 %r2, %ctaid.x; mad.lo.u32 %r3, %r2, 32, %r0; mul.wide.u32 %rd1, %r3, 4; add.u64 %rd0, %rd0, %rd1;
            and.b32 %r4, %r3, 1; setp.eq.u32 %p0, %r4, %r2; @%p0 mov.f32 %f0, 0f40000000;
            add.f32 %f1, %f0, 0f3F800000; st.global.f32 [%rd0], %f1;
            """,
            [result], blocks: 2);
        float[] actual = kernel.Read<float>(result);
        for (int n = 0; n < 64; n++) Assert.Equal(n % 2 == n / 32 ? 3f : float.NaN, actual[n]);
    }

    [Fact]
    public void A_kernel_that_never_ends_is_stopped_and_says_where_it_is()
    {
        using var kernel = new TestKernel(mostInstructions: 100_000);
        string found = Assert.Throws<CudaEmulationException>(() => kernel.Run("$AGAIN: ld.global.u32 %r2, [%rd0]; setp.eq.u32 %p0, %r2, 0; @%p0 bra $AGAIN;", [kernel.Memory<uint>(0)], threads: 64)).Message;
        Assert.Contains("does not end", found, StringComparison.Ordinal);
        Assert.Contains("warp 0 runs (line ", found, StringComparison.Ordinal);
        Assert.Contains("warp 1 runs (line ", found, StringComparison.Ordinal);
    }
}
