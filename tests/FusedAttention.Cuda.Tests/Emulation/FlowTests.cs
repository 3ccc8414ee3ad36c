using FusedAttention.Cuda.Emulation;
using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Launching;
using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>Where lanes, warps and blocks of the emulator go, and what they tell each other.</summary>
public sealed class FlowTests
{
    internal static readonly LaunchOrder[] Orders = [LaunchOrder.Forward, LaunchOrder.Reverse, new(OrderKind.Shuffled, 1), new(OrderKind.Shuffled, 2), new(OrderKind.Shuffled, 3)];

    /// <summary>Lanes part three times, in a loop of as many rounds as a lane's number, and are together for a vote at the end.</summary>
    [Fact]
    public void Lanes_that_part_meet_again()
    {
        uint[] results = TestKernel.Lanes<uint, uint>(
            """
            mov.u32 %r5, 0; mov.u32 %r6, 0;
            setp.eq.u32 %p1, %r2, 0; @%p1 bra $END;
            $LOOP:
            and.b32 %r7, %r6, 1; setp.ne.u32 %p2, %r7, 0; @%p2 bra $ODD;
            add.u32 %r5, %r5, 10; bra $NEXT;
            $ODD: add.u32 %r5, %r5, 1;
            $NEXT: add.u32 %r6, %r6, 1; setp.lt.u32 %p1, %r6, %r2; @%p1 bra $LOOP;
            $END:
            setp.ge.u32 %p3, %r2, 31; vote.sync.ballot.b32 %r8, %p3, 0xffffffff; and.b32 %r8, %r8, 0x80000000; shr.u32 %r8, %r8, 21; add.u32 %r5, %r5, %r8;
            """,
            [.. Enumerable.Range(0, 32).Select(static n => (uint)n)]);
        for (int lane = 0; lane < 32; lane++) Assert.Equal((uint)(((lane + 1) / 2 * 10) + (lane / 2) + 1024), results[lane]);
    }

    [Fact]
    public void Lanes_that_have_ended_do_nothing_more()
    {
        using var kernel = new TestKernel();
        CudaMemory result = kernel.Memory<uint>(new uint[32]);
        kernel.Run("mul.wide.u32 %rd1, %r0, 4; add.u64 %rd0, %rd0, %rd1; setp.gt.u32 %p0, %r0, 9; @%p0 exit; st.global.u32 [%rd0], 5;", [result]);
        Assert.Equal([.. Enumerable.Range(0, 32).Select(static n => n > 9 ? 0u : 5)], kernel.Read<uint>(result));
    }

    [Theory]
    [InlineData("shfl.sync.bfly.b32 %r5, %r2, 5, 31, 0xffffffff;", "butterfly")]
    [InlineData("shfl.sync.idx.b32 %r5, %r2, 7, 31, 0xffffffff;", "index")]
    [InlineData("shfl.sync.up.b32 %r5|%p1, %r2, 3, 0, 0xffffffff; @!%p1 mov.u32 %r5, 99;", "up")]
    [InlineData("shfl.sync.down.b32 %r5|%p1, %r2, 3, 31, 0xffffffff; @!%p1 mov.u32 %r5, 99;", "down")]
    [InlineData("shfl.sync.idx.b32 %r5, %r2, 1, 0x181f, 0xffffffff;", "segments")]
    [InlineData("redux.sync.add.s32 %r5, %r2, 0xffffffff;", "sum")]
    public void Lanes_hear_from_each_other(string instruction, string kind)
    {
        uint[] results = TestKernel.Lanes<uint, uint>(instruction, [.. Enumerable.Range(0, 32).Select(static n => (uint)n)]);
        for (int lane = 0; lane < 32; lane++)
        {
            int expected = kind switch { "butterfly" => lane ^ 5, "index" => 7, "up" => lane < 3 ? 99 : lane - 3, "down" => lane > 28 ? 99 : lane + 3, "segments" => (lane & 24) + 1, _ => 31 * 16 };
            Assert.Equal((uint)expected, results[lane]);
        }
    }

    [Fact]
    public void Votes_are_counted_and_one_lane_is_elected()
    {
        uint[] lanes = [.. Enumerable.Range(0, 32).Select(static n => (uint)n)];
        Assert.All(TestKernel.Lanes<uint, uint>("setp.eq.u32 %p1, %r2, 9; vote.sync.any.pred %p2, %p1, 0xffffffff; vote.sync.all.pred %p3, %p1, 0xffffffff; selp.b32 %r5, 1, 0, %p2; @%p3 add.u32 %r5, %r5, 2;", lanes), static x => Assert.Equal(1u, x));
        Assert.All(TestKernel.Lanes<uint, uint>("setp.lt.u32 %p1, %r2, 3; vote.sync.ballot.b32 %r5, %p1, 0xffffffff;", lanes), static x => Assert.Equal(7u, x));
        uint[] elected = TestKernel.Lanes<uint, uint>("elect.sync _|%p1, 0xffffffff; selp.b32 %r5, 1, 0, %p1;", lanes);
        Assert.Equal([1u, .. new uint[31]], elected);
    }

    /// <summary>Each warp writes, waits, and reads what the next one has written, in all orders.</summary>
    [Fact]
    public void Warps_wait_for_each_other_at_barriers()
    {
        foreach (LaunchOrder order in Orders)
        {
            using var kernel = new TestKernel(order);
            CudaMemory result = kernel.Unwritten(256 * sizeof(uint));
            kernel.Run(
                """
                shl.b32 %r2, %r0, 2; add.u32 %r2, %r2, %r1; st.shared.u32 [%r2], %r0;
                bar.sync 0;
                add.u32 %r3, %r0, 32; and.b32 %r3, %r3, 127; shl.b32 %r3, %r3, 2; add.u32 %r3, %r3, %r1; ld.shared.u32 %r4, [%r3];
                setp.eq.u32 %p0, %r0, 77; bar.red.or.pred %p1, 0, %p0; bar.red.popc.u32 %r5, 0, %p1; selp.b32 %r6, 1000, 0, %p1; add.u32 %r4, %r4, %r6;
                mul.wide.u32 %rd1, %r0, 8; add.u64 %rd0, %rd0, %rd1; st.global.v2.u32 [%rd0], {%r4, %r5};
                """,
                [result], threads: 128, sharedBytes: 512);
            uint[] actual = kernel.Read<uint>(result);
            for (uint thread = 0; thread < 128; thread++) Assert.Equal((((thread + 32) % 128) + 1000, 128u), (actual[2 * thread], actual[(2 * thread) + 1]));
        }
    }

    /// <summary>One warp makes, the others take: it waits for nobody, and they for it and each other.</summary>
    [Fact]
    public void Barriers_have_numbers_and_counts()
    {
        foreach (LaunchOrder order in Orders)
        {
            using var kernel = new TestKernel(order);
            CudaMemory result = kernel.Unwritten(64 * sizeof(uint));
            kernel.Run(
                """
                setp.ge.u32 %p0, %r0, 32; @%p0 bra $TAKE;
                shl.b32 %r2, %r0, 2; add.u32 %r2, %r2, %r1; st.shared.u32 [%r2], %r0; bar.arrive 3, 96; exit;
                $TAKE: bar.sync 3, 96;
                sub.u32 %r3, %r0, 32; and.b32 %r4, %r3, 31; shl.b32 %r4, %r4, 2; add.u32 %r4, %r4, %r1; ld.shared.u32 %r5, [%r4];
                bar.sync 4, 64;
                mul.wide.u32 %rd1, %r3, 4; add.u64 %rd0, %rd0, %rd1; st.global.u32 [%rd0], %r5;
                """,
                [result], threads: 96, sharedBytes: 128);
            Assert.Equal([.. Enumerable.Range(0, 64).Select(static n => (uint)n % 32)], kernel.Read<uint>(result));
        }
    }

    [Fact]
    public void The_last_block_to_arrive_sees_what_all_have_left()
    {
        foreach (LaunchOrder order in Orders)
        {
            using var kernel = new TestKernel(order);
            CudaMemory parts = kernel.Unwritten(8 * sizeof(uint)), counter = kernel.Memory<uint>(0), result = kernel.Unwritten(sizeof(uint));
            kernel.Run(
                """
                setp.ne.u32 %p0, %r0, 0; @%p0 exit;
                mov.u32 %r2, %ctaid.x; mul.wide.u32 %rd3, %r2, 4; add.u64 %rd3, %rd3, %rd0; add.u32 %r3, %r2, 100; st.global.u32 [%rd3], %r3;
                atom.acq_rel.gpu.global.add.u32 %r4, [%rd1], 1; setp.ne.u32 %p1, %r4, 7; @%p1 exit;
                mov.u32 %r5, 0; mov.u32 %r6, 0;
                $SUM: ld.global.u32 %r7, [%rd0]; add.u32 %r5, %r5, %r7; add.u64 %rd0, %rd0, 4; add.u32 %r6, %r6, 1; setp.lt.u32 %p2, %r6, 8; @%p2 bra $SUM;
                st.global.u32 [%rd2], %r5;
                """,
                [parts, counter, result], blocks: 8);
            Assert.Equal([828u], kernel.Read<uint>(result));
        }
    }

    /// <summary>The first block waits for the last one, which begins beside it when it has taken long enough.</summary>
    [Fact]
    public void A_block_may_wait_for_one_that_comes_later()
    {
        using var kernel = new TestKernel(mostInstructions: 200_000_000);
        CudaMemory flag = kernel.Memory<uint>(0), result = kernel.Unwritten(sizeof(uint));
        kernel.Run(
            """
            setp.ne.u32 %p0, %r0, 0; @%p0 exit;
            mov.u32 %r2, %ctaid.x; setp.eq.u32 %p1, %r2, 0; @%p1 bra $WAIT; st.release.gpu.global.u32 [%rd0], %r2; exit;
            $WAIT: ld.acquire.gpu.global.u32 %r3, [%rd0]; setp.eq.u32 %p2, %r3, 0; @%p2 bra $WAIT;
            st.global.u32 [%rd1], %r3;
            """,
            [flag, result], blocks: 2);
        Assert.Equal([1u], kernel.Read<uint>(result));
    }

    [Fact]
    public void Special_registers_say_where_a_thread_is()
    {
        using var kernel = new TestKernel();
        CudaMemory result = kernel.Unwritten(3 * 64 * 4 * sizeof(uint));
        kernel.Run(
            """
            mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mad.lo.u32 %r4, %r2, %r3, %r0; mul.wide.u32 %rd1, %r4, 16; add.u64 %rd0, %rd0, %rd1;
            mov.u32 %r5, %laneid; mov.u32 %r6, %warpid; mov.u32 %r7, %nctaid.x; st.global.v4.u32 [%rd0], {%r4, %r5, %r6, %r7};
            """,
            [result], threads: 64, blocks: 3);
        uint[] actual = kernel.Read<uint>(result);
        for (uint n = 0; n < 192; n++) Assert.Equal([n, n % 32, n % 64 / 32, 3], actual.AsSpan((int)n * 4, 4).ToArray());
    }

    [Fact]
    public void Copies_in_the_background_arrive_with_their_group()
    {
        foreach (LaunchOrder order in Orders)
        {
            using var kernel = new TestKernel(order);
            CudaMemory source = kernel.Memory<uint>([.. Enumerable.Range(0, 256).Select(static n => (uint)n)]), result = kernel.Unwritten(128 * sizeof(uint));
            kernel.Run(
                """
                shl.b32 %r2, %r0, 4; add.u32 %r3, %r1, %r2; cvt.u64.u32 %rd2, %r2; add.u64 %rd0, %rd0, %rd2;
                and.b32 %r5, %r0, 15;
                cp.async.cg.shared.global.L2::128B [%r3], [%rd0], 16, %r5; cp.async.commit_group;
                cp.async.cg.shared.global [%r3+512], [%rd0+512], 16; cp.async.commit_group;
                cp.async.wait_group 1;
                ld.shared.v4.u32 {%r6, %r7, %r8, %r9}, [%r3];
                cp.async.wait_group 0;
                ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r3+512]; add.u32 %r6, %r6, %r10;
                add.u64 %rd1, %rd1, %rd2; st.global.v4.u32 [%rd1], {%r6, %r7, %r8, %r9};
                """,
                [source, result], sharedBytes: 1024);
            byte[] expected = new byte[512];
            for (int lane = 0; lane < 32; lane++)
            {
                for (int b = 0; b < lane % 16; b++) expected[(lane * 16) + b] = (byte)(((lane * 4) + (b / 4)) >> (8 * (b % 4)));
                BitConverter.TryWriteBytes(expected.AsSpan(lane * 16), BitConverter.ToUInt32(expected, lane * 16) + 128 + (uint)(lane * 4));
            }

            Assert.Equal(expected, kernel.Read<byte>(result));
        }
    }

    [Theory]
    [InlineData("add.s33 %r2, %r0, 1;", "line 16, add.s33: Opcode add.s33 is not known: a type is expected behind add.")]
    [InlineData("add.ftz.s32 %r2, %r0, 1;", "not known with these modifiers")]
    [InlineData("frobnicate.b32 %r2, %r0;", "the instruction is not known")]
    [InlineData("ld.global.L9::x.b32 %r2, [%rd0];", "a type is expected behind ld.global")]
    [InlineData("add.s32 %r2, %rd0, 1;", "register %rd0 is of type .b64, where .s32 is expected")]
    [InlineData("add.s32 %r2, %r99, 1;", "register %r99 is not declared")]
    [InlineData("add.s32 %r2, %r0;", "2 operands are too few")]
    [InlineData("bra $NOWHERE;", "there is no label $NOWHERE")]
    [InlineData("mma.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%f0}, {%r0}, {%r0}, {%f0};", "one of m16n8k16 is expected")]
    [InlineData("mov.b32 %r2 %r3;", "Line 16 of the PTX text: ',' is expected")]
    public void Text_that_the_emulator_does_not_know_is_refused_with_its_line(string instruction, string message)
    {
        using var kernel = new TestKernel();
        string refusal = Assert.Throws<CudaEmulationException>(() => kernel.Run(instruction, [])).Message;
        Assert.Contains(message, refusal, StringComparison.Ordinal);
        Assert.Contains("ine 16", refusal, StringComparison.Ordinal);
    }
}
