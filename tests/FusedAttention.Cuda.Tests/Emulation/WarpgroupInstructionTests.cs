using System.Globalization;
using FusedAttention.Cuda.Emulation;
using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Launching;
using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>What came with Hopper, in the emulator: boxes of tensors, barriers that count their bytes; and faults in their use, which must be found.</summary>
public sealed class WarpgroupInstructionTests
{
    private const int BoxRows = 16;

    /// <summary>A kernel's beginning: one lane makes a barrier at the beginning of shared memory, for one arrival; boxes go to 1,024 behind it, whose address is %r20.</summary>
    internal const string Prologue =
        """
        add.u32 %r20, %r1, 1024; setp.eq.u32 %p15, %r0, 0;
        @%p15 mbarrier.init.shared::cta.b64 [%r1], 1;
        fence.mbarrier_init.release.cluster;
        bar.sync 0;
        """;

    /// <summary>Waits for the first phase.</summary>
    internal const string Wait =
        """
        $WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p14, [%r1], 0; @!%p14 bra $WAIT;
        """;

    public static TheoryData<string, int, int> Boxes => new()
    {
        { nameof(Swizzle.Bytes128), 0, 0 }, { nameof(Swizzle.Bytes128), 64, 8 }, { nameof(Swizzle.Bytes128), 72, -3 }, { nameof(Swizzle.Bytes128), -8, 20 }, { nameof(Swizzle.Bytes64), 8, 5 }, { nameof(Swizzle.Bytes32), 16, 1 },
        { nameof(Swizzle.None), 100, 0 },
    };

    /// <summary>Chunks of 16 bytes of row r lie where the row's number, in bits, takes them; what is outside of the tensor is zero.</summary>
    [Theory]
    [MemberData(nameof(Boxes))]
    public void Boxes_arrive_swizzled_and_with_zeros_around_the_tensor(string swizzleName, int column, int row)
    {
        const int Columns = 120, Rows = 24;
        Swizzle swizzle = Enum.Parse<Swizzle>(swizzleName);
        int rowBytes = swizzle == Swizzle.None ? 96 : TensorMapImage.SpanOf(swizzle), boxColumns = rowBytes / 2, boxBytes = BoxRows * rowBytes;
        ushort[] tensor = [.. Enumerable.Range(1, Columns * Rows).Select(static n => (ushort)n)];
        foreach (LaunchOrder order in FlowTests.Orders)
        {
            using var kernel = new TestKernel(order);
            CudaMemory memory = kernel.Memory<ushort>(tensor), result = kernel.Unwritten(boxBytes);
            Run(kernel, MapOf(memory.Address, Columns, Rows, boxColumns, BoxRows, swizzle), [result],
                $$"""
                {{Prologue}}
                @!%p15 bra $CONSUME;
                mov.s32 %r2, {{column}}; mov.s32 %r3, {{row}};
                mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], {{boxBytes}};
                cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd8, {%r2, %r3}], [%r1];
                $CONSUME: {{Wait}}
                {{CopyOut(boxBytes, "%rd0")}}
                """, sharedBytes: 1024 + boxBytes);
            ushort[] actual = kernel.Read<ushort>(result);
            for (int r = 0; r < BoxRows; r++)
            {
                for (int c = 0; c < boxColumns; c++)
                {
                    int chunk = c / 8, number = ((r * rowBytes) / 128) % 8;
                    int moved = swizzle switch { Swizzle.Bytes128 => chunk ^ number, Swizzle.Bytes64 => chunk ^ (number % 4), Swizzle.Bytes32 => chunk ^ (number % 2), _ => chunk };
                    bool isInside = row + r is >= 0 and < Rows && column + c is >= 0 and < Columns;
                    ushort expected = isInside ? tensor[((row + r) * Columns) + column + c] : (ushort)0;
                    Assert.True(expected == actual[(r * boxColumns) + (moved * 8) + (c % 8)], $"row {r}, column {c} of the box");
                }
            }
        }
    }

    /// <summary>A box goes there and back: only what is inside of the tensor is written.</summary>
    [Fact]
    public void Boxes_are_stored_inside_the_tensor()
    {
        const int Columns = 72, Rows = 20;
        ushort[] tensor = [.. Enumerable.Range(1, Columns * Rows).Select(static n => (ushort)n)];
        using var kernel = new TestKernel();
        CudaMemory source = kernel.Memory<ushort>(tensor), target = kernel.Memory<ushort>(new ushort[Columns * Rows]);
        Run(kernel, MapOf(source.Address, Columns, Rows, 64, BoxRows, Swizzle.Bytes128), [source],
            $$"""
            {{Prologue}}
            @!%p15 exit;
            mov.s32 %r2, 32; mov.s32 %r3, 6;
            mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 2048;
            cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd8, {%r2, %r3}], [%r1];
            {{Wait}}
            cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd9, {%r2, %r3}], [%r20];
            cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;
            """, sharedBytes: 3072, second: MapOf(target.Address, Columns, Rows, 64, BoxRows, Swizzle.Bytes128));
        ushort[] actual = kernel.Read<ushort>(target);
        for (int r = 0; r < Rows; r++)
            for (int c = 0; c < Columns; c++) Assert.Equal(r >= 6 && c >= 32 ? tensor[(r * Columns) + c] : 0, actual[(r * Columns) + c]);
    }

    [Fact]
    public void Runs_of_bytes_are_copied_both_ways()
    {
        uint[] numbers = [.. Enumerable.Range(0, 256).Select(static n => (uint)n * 3)];
        using var kernel = new TestKernel(LaunchOrder.Reverse);
        CudaMemory target = kernel.Unwritten(512);
        kernel.Run(
            $$"""
            {{Prologue}}
            @!%p15 exit;
            mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 512;
            cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd0], 512, [%r1];
            {{Wait}}
            cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r20], 512;
            cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
            """,
            [kernel.Memory<uint>(numbers), target], sharedBytes: 2048);
        Assert.Equal(numbers[..128], kernel.Read<uint>(target));
    }

    /// <summary>A warp's lanes copy 16 bytes each and arrive behind that, without waiting; another warp waits for all of them, and may not read before.</summary>
    [Theory]
    [InlineData("", Wait, "")]
    [InlineData("", "", "a copy is still under way to|without a barrier|nobody has written")]
    [InlineData("cp.async.commit_group;", Wait, "of which some are in groups")]
    public void Barriers_count_copies_of_lanes(string group, string wait, string messages)
    {
        uint[] numbers = [.. Enumerable.Range(0, 128).Select(static n => (uint)n * 5)];
        foreach (LaunchOrder order in FlowTests.Orders)
        {
            using var kernel = new TestKernel(order, mostInstructions: 100_000);
            CudaMemory target = kernel.Unwritten(512);
            string body =
                $$"""
                add.u32 %r20, %r1, 1024; setp.eq.u32 %p15, %r0, 0; setp.ge.u32 %p13, %r0, 32;
                @%p15 mbarrier.init.shared::cta.b64 [%r1], 32;
                bar.sync 0;
                and.b32 %r2, %r0, 31; shl.b32 %r2, %r2, 4; add.u32 %r21, %r20, %r2; cvt.u64.u32 %rd4, %r2; add.u64 %rd0, %rd0, %rd4; add.u64 %rd1, %rd1, %rd4;
                @%p13 bra $CONSUME;
                cp.async.cg.shared.global [%r21], [%rd0], 16;
                {{group}}
                cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r1];
                exit;
                $CONSUME: {{wait}}
                ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r21];
                st.global.v4.b32 [%rd1], {%r4, %r5, %r6, %r7};
                """;
            void Run() => kernel.Run(body, [kernel.Memory<uint>(numbers), target], threads: 64, sharedBytes: 2048);
            if (messages.Length == 0)
            {
                Run();
                Assert.Equal(numbers, kernel.Read<uint>(target));
                continue;
            }

            string found = Assert.Throws<CudaEmulationException>(Run).Message;
            Assert.True(messages.Split('|').Any(message => found.Contains(message, StringComparison.Ordinal)), found);
        }
    }

    /// <summary>Two stages between one warp that loads and three that take: each number arrives once, whatever the order.</summary>
    [Fact]
    public void A_ring_of_stages_brings_everything_in_order()
    {
        uint[] numbers = [.. Enumerable.Range(0, 10 * 32).Select(static n => (uint)n)];
        foreach (LaunchOrder order in FlowTests.Orders)
        {
            using var kernel = new TestKernel(order);
            CudaMemory result = kernel.Unwritten(96 * sizeof(uint));
            kernel.Run(RingOf("@%p1 mbarrier.arrive.shared::cta.b64 _, [%r6+16];"), [kernel.Memory<uint>(numbers), result], threads: 128, sharedBytes: 2048);
            Assert.Equal([.. Enumerable.Range(0, 96).Select(static n => (uint)Enumerable.Range(0, 10).Sum(step => (step * 32) + (n % 32)))], kernel.Read<uint>(result));
        }
    }

    /// <summary>Faults of those who load and take: a stage that is given back before it is read or not at all, too few bytes, too many, reading before the phase ends.</summary>
    [Theory]
    [InlineData("a stage that nobody gives back", "", "can go on")]
    [InlineData("a stage that is given back twice", "@%p1 mbarrier.arrive.shared::cta.b64 _, [%r6+16]; @%p1 mbarrier.arrive.shared::cta.b64 _, [%r6+16];", "arrives 1 times at a barrier that waits for 0 more|nobody has written|a copy is still under way|without a barrier|can go on")]
    public void Faults_in_a_ring_are_found(string what, string giving, string messages)
    {
        foreach (LaunchOrder order in FlowTests.Orders)
        {
            using var kernel = new TestKernel(order, mostInstructions: 100_000);
            CudaMemory numbers = kernel.Memory<uint>([.. Enumerable.Range(0, 10 * 32).Select(static n => (uint)n)]), result = kernel.Unwritten(96 * sizeof(uint));
            string found = Assert.Throws<CudaEmulationException>(() => kernel.Run(RingOf(giving), [numbers, result], threads: 128, sharedBytes: 2048)).Message;
            Assert.True(messages.Split('|').Any(message => found.Contains(message, StringComparison.Ordinal)), $"{what}: {found}");
        }
    }

    [Theory]
    [InlineData("512", "512", "ld.shared.u32 %r3, [%r20];", "")]
    [InlineData("512", "512", "", "a copy is still under way to")]
    [InlineData("528", "512", "ld.shared.u32 %r3, [%r20];", "16 bytes missing")]
    [InlineData("496", "512", "ld.shared.u32 %r3, [%r20];", "-16 bytes missing")]
    public void Bytes_that_are_expected_must_be_those_that_come(string expected, string copied, string read, string message)
    {
        using var kernel = new TestKernel(LaunchOrder.Forward, mostInstructions: 100_000);
        string body =
            $$"""
            {{Prologue}}
            @!%p15 exit;
            mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], {{expected}};
            cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd0], {{copied}}, [%r1];
            {{(read.Length == 0 ? "ld.shared.u32 %r3, [%r20];" : "")}}
            {{Wait}}
            {{read}}
            """;
        void Run() => kernel.Run(body, [kernel.Memory<uint>(new uint[128])], sharedBytes: 2048);
        if (message.Length == 0) Run();
        else Assert.Contains(message, Assert.Throws<CudaEmulationException>(Run).Message, StringComparison.Ordinal);
    }

    /// <summary>Warp 0 brings 10 stages of 128 bytes, two at a time; three warps add them up, lane by lane, and give each back by one lane (%p1).</summary>
    private static string RingOf(string giving) =>
        $$"""
        setp.ne.u32 %p0, %r0, 0; @%p0 bra $MADE;
        mbarrier.init.shared::cta.b64 [%r1], 1; mbarrier.init.shared::cta.b64 [%r1+8], 1; mbarrier.init.shared::cta.b64 [%r1+16], 3; mbarrier.init.shared::cta.b64 [%r1+24], 3;
        fence.mbarrier_init.release.cluster;
        $MADE: bar.sync 0;
        mov.u32 %r2, 0; mov.u32 %r3, 0;
        setp.ge.u32 %p0, %r0, 32; @%p0 bra $TAKE;
        setp.ne.u32 %p0, %r0, 0; @%p0 exit;
        $LOAD: and.b32 %r4, %r2, 1; shr.u32 %r5, %r2, 1; and.b32 %r5, %r5, 1; xor.b32 %r5, %r5, 1;
        shl.b32 %r6, %r4, 3; add.u32 %r6, %r6, %r1; shl.b32 %r7, %r4, 7; add.u32 %r7, %r7, %r1; add.u32 %r7, %r7, 1024;
        $EMPTY: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r6+16], %r5; @!%p2 bra $EMPTY;
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r6], 128;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r7], [%rd0], 128, [%r6];
        add.u64 %rd0, %rd0, 128; add.u32 %r2, %r2, 1; setp.lt.u32 %p3, %r2, 10; @%p3 bra $LOAD;
        exit;
        $TAKE: sub.u32 %r8, %r0, 32; and.b32 %r9, %r0, 31; setp.eq.u32 %p1, %r9, 0; shl.b32 %r9, %r9, 2;
        $NEXT: and.b32 %r4, %r2, 1; shr.u32 %r5, %r2, 1; and.b32 %r5, %r5, 1;
        shl.b32 %r6, %r4, 3; add.u32 %r6, %r6, %r1; shl.b32 %r7, %r4, 7; add.u32 %r7, %r7, %r1; add.u32 %r7, %r7, %r9;
        $FULL: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r6], %r5; @!%p2 bra $FULL;
        ld.shared.u32 %r10, [%r7+1024]; add.u32 %r3, %r3, %r10;
        bar.warp.sync 0xffffffff;
        {{giving}}
        add.u32 %r2, %r2, 1; setp.lt.u32 %p3, %r2, 10; @%p3 bra $NEXT;
        mul.wide.u32 %rd4, %r8, 4; add.u64 %rd1, %rd1, %rd4; st.global.u32 [%rd1], %r3;
        """;

    internal static string CopyOut(int bytes, string to) => string.Concat(Enumerable.Range(0, (bytes + 511) / 512).Select(n => string.Create(
        CultureInfo.InvariantCulture,
        $"shl.b32 %r50, %r0, 4; add.u32 %r50, %r50, {512 * n}; setp.lt.u32 %p9, %r50, {bytes}; add.u32 %r51, %r50, %r20; cvt.u64.u32 %rd15, %r50; add.u64 %rd15, %rd15, {to}; @%p9 ld.shared.v4.u32 {{%r52, %r53, %r54, %r55}}, [%r51]; @%p9 st.global.v4.u32 [%rd15], {{%r52, %r53, %r54, %r55}};\n")));

    internal static TensorMapImage MapOf(ulong address, int columns, int rows, int boxColumns, int boxRows, Swizzle swizzle)
    {
        TensorMapImage.Five lengths = default, strides = default;
        TensorMapImage.FiveSmall box = default;
        (lengths[0], lengths[1], strides[0], strides[1], box[0], box[1]) = (columns, rows, 2, columns * 2, (short)boxColumns, (short)boxRows);
        return new TensorMapImage { Rank = 2, ElementBytes = 2, Swizzle = swizzle, Address = address, Lengths = lengths, Strides = strides, Box = box };
    }

    /// <summary>Maps are parameters: %rd8 has the address of the first one, %rd9 of the second.</summary>
    internal static unsafe void Run(TestKernel kernel, TensorMapImage map, CudaMemory[] memory, string body, int sharedBytes, TensorMapImage second = default)
    {
        string text = TestKernel.Text("mov.b64 %rd8, map; cvta.param.u64 %rd8, %rd8; add.u64 %rd9, %rd8, 128; prefetch.tensormap [%rd8];\n" + body, memory.Length).Replace("test(", "test(.param .align 64 .b8 map[256], ", StringComparison.Ordinal);
        var parameters = new ulong[32 + memory.Length];
        fixed (ulong* first = parameters)
        {
            ((TensorMapImage*)first)[0] = map;
            ((TensorMapImage*)first)[1] = second;
        }

        for (int n = 0; n < memory.Length; n++) parameters[32 + n] = memory[n].Address;
        kernel.Launch(text, parameters, sharedBytes: sharedBytes);
    }
}
