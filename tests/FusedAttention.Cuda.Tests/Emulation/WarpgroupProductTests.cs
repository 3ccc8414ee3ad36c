using System.Globalization;
using FusedAttention.Cuda.Emulation;
using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Launching;
using Xunit;
using static FusedAttention.Cuda.Tests.Emulation.WarpgroupInstructionTests;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>Products of warpgroups in the emulator, by the tables of the PTX ISA; and faults in their use, which must be found.</summary>
public sealed class WarpgroupProductTests
{
    public static TheoryData<string, int, bool, bool, string> Products
    {
        get
        {
            var cases = new TheoryData<string, int, bool, bool, string>();
            foreach (string swizzle in (string[])[nameof(Swizzle.Bytes128), nameof(Swizzle.Bytes64), nameof(Swizzle.Bytes32), nameof(Swizzle.None)])
            {
                foreach (bool isLeftInRegisters in (bool[])[false, true])
                {
                    foreach (bool isTransposed in (bool[])[false, true])
                        if (!isTransposed || swizzle is not nameof(Swizzle.None)) cases.Add(swizzle, isTransposed ? 64 : 24, isLeftInRegisters, isTransposed, isLeftInRegisters ? "bf16" : "f16");
                }
            }

            cases.Add(nameof(Swizzle.Bytes128), 256, false, false, "f16");
            cases.Add(nameof(Swizzle.Bytes128), 128, true, true, "bf16");
            cases.Add(nameof(Swizzle.Bytes128), 8, true, false, "f16");
            return cases;
        }
    }

    /// <summary>64 rows by any number of columns, two products in a chain; factors lie as the ISA's figures of shared memory layouts have them, laid out here by their own formulas.</summary>
    [Theory]
    [MemberData(nameof(Products))]
    public void Products_of_warpgroups_are_those_of_the_matrices(string swizzleName, int columns, bool isLeftInRegisters, bool isTransposed, string type)
    {
        Swizzle swizzle = Enum.Parse<Swizzle>(swizzleName);
        var random = new Random(columns);
        const int Depth = 32;
        float[,] a = new float[64, Depth], b = new float[Depth, columns];
        for (int k = 0; k < Depth; k++)
        {
            for (int m = 0; m < 64; m++) a[m, k] = random.Next(-9, 10);
            for (int n = 0; n < columns; n++) b[k, n] = random.Next(-9, 10);
        }

        // Two slices of 16, each in room of its own; rows of a slice are neighbours by the shared dimension, or, transposed, by columns.
        const int SliceBytes = 32768;
        byte[] left = new byte[2 * SliceBytes], right = new byte[2 * SliceBytes];
        int span = Math.Max(16, TensorMapImage.SpanOf(swizzle)), spanElements = span / 2;
        (int leftLeading, int leftStride) = swizzle == Swizzle.None ? (1024, 128) : (16, 8 * span);
        (int rightLeading, int rightStride) = isTransposed ? (16 * span, 8 * span) : swizzle == Swizzle.None ? (4096, 128) : (16, 8 * span);
        for (int k = 0; k < Depth; k++)
        {
            int slice = k / 16, inner = k % 16;
            for (int m = 0; m < 64; m++) Put(left, slice, swizzle == Swizzle.None ? (m / 8 * leftStride) + (inner / 8 * leftLeading) + (m % 8 * 16) + (inner % 8 * 2) : (m / 8 * leftStride) + (m % 8 * span) + (inner * 2), a[m, k]);
            for (int n = 0; n < columns; n++)
            {
                int offset = isTransposed ? (n / spanElements * rightLeading) + (inner / 8 * rightStride) + (inner % 8 * span) + (n % spanElements * 2)
                    : swizzle == Swizzle.None ? (n / 8 * rightStride) + (inner / 8 * rightLeading) + (n % 8 * 16) + (inner % 8 * 2)
                    : (n / 8 * rightStride) + (n % 8 * span) + (inner * 2);
                Put(right, slice, offset, b[k, n]);
            }
        }

        uint[] fragments = new uint[2 * 128 * 4];
        for (int slice = 0; slice < 2; slice++)
        {
            for (int thread = 0; thread < 128; thread++)
            {
                // "WGMMA .m64nNk16 register fragment layout for matrix A".
                for (int i = 0; i < 8; i++)
                {
                    int row = (thread / 32 * 16) + (thread % 32 / 4) + (i % 4 >= 2 ? 8 : 0), column = (thread % 4 * 2) + (i % 2) + (i >= 4 ? 8 : 0);
                    fragments[(slice * 512) + (thread * 4) + (i / 2)] |= (uint)TestKernel.Bits(type, a[row, (slice * 16) + column]) << (16 * (i % 2));
                }
            }
        }

        int registers = columns / 2;
        string sums = "{" + string.Join(", ", Enumerable.Range(0, registers).Select(static n => string.Create(CultureInfo.InvariantCulture, $"%f{n}"))) + "}";
        ulong high = (ulong)(swizzle switch { Swizzle.Bytes128 => 1, Swizzle.Bytes64 => 2, Swizzle.Bytes32 => 3, _ => 0 }) << 62;
        string Descriptor(string register, int offset, int leading, int stride) => string.Create(
            CultureInfo.InvariantCulture,
            $"add.u32 %r30, %r20, {offset}; shr.u32 %r30, %r30, 4; cvt.u64.u32 {register}, %r30; mov.u64 %rd30, {high | ((ulong)(stride >> 4) << 32) | ((ulong)(leading >> 4) << 16)}; or.b64 {register}, {register}, %rd30;\n");
        var body = new System.Text.StringBuilder(Prologue);
        body.Append(
            $$"""
            @!%p15 bra $CONSUME;
            mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], {{4 * SliceBytes}};
            cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd0], {{2 * SliceBytes}}, [%r1];
            add.u32 %r21, %r20, {{2 * SliceBytes}};
            cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r21], [%rd1], {{2 * SliceBytes}}, [%r1];
            $CONSUME: {{Wait}}
            mul.wide.u32 %rd4, %r0, 16; add.u64 %rd2, %rd2, %rd4;
            ld.global.v4.b32 {%r40, %r41, %r42, %r43}, [%rd2]; ld.global.v4.b32 {%r44, %r45, %r46, %r47}, [%rd2+2048];
            wgmma.fence.sync.aligned;
            """);
        for (int slice = 0; slice < 2; slice++)
        {
            body.Append(Descriptor("%rd20", slice * SliceBytes, leftLeading, leftStride)).Append(Descriptor("%rd21", (2 + slice) * SliceBytes, rightLeading, rightStride));
            string factor = isLeftInRegisters ? (slice == 0 ? "{%r40, %r41, %r42, %r43}" : "{%r44, %r45, %r46, %r47}") : "%rd20";
            body.Append(CultureInfo.InvariantCulture, $"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{type}.{type} {sums}, {factor}, %rd21, {slice}, 1, 1{(isLeftInRegisters ? "" : ", 0")}, {(isTransposed ? 1 : 0)};\n");
        }

        body.Append("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n");
        body.Append(CultureInfo.InvariantCulture, $"mul.wide.u32 %rd5, %r0, {registers * 4}; add.u64 %rd3, %rd3, %rd5;\n");
        for (int n = 0; n < registers; n++) body.Append(CultureInfo.InvariantCulture, $"st.global.f32 [%rd3+{4 * n}], %f{n};\n");
        using var kernel = new TestKernel(new(OrderKind.Shuffled, columns));
        CudaMemory result = kernel.Unwritten(128 * registers * sizeof(float));
        kernel.Run(body.ToString(), [kernel.Memory<byte>(left), kernel.Memory<byte>(right), kernel.Memory<uint>(fragments), result], threads: 128, sharedBytes: 1024 + (4 * SliceBytes));
        float[] actual = kernel.Read<float>(result);
        for (int thread = 0; thread < 128; thread++)
        {
            for (int i = 0; i < registers; i++)
            {
                // "WGMMA .m64nNk16 register fragment layout for accumulator matrix D".
                int row = (thread / 32 * 16) + (thread % 32 / 4) + (i / 2 % 2 * 8), column = (i / 4 * 8) + (thread % 4 * 2) + (i % 2);
                float expected = 0;
                for (int k = 0; k < Depth; k++) expected += a[row, k] * b[k, column];
                Assert.True(expected.Equals(actual[(thread * registers) + i]), $"row {row}, column {column} is {actual[(thread * registers) + i]}, not {expected}");
            }
        }

        void Put(byte[] memory, int slice, int offset, float value)
        {
            // Rows of 128 bytes are counted from a multiple of 1,024.
            int row = offset / 128, moved = swizzle switch { Swizzle.Bytes128 => (row % 8) << 4, Swizzle.Bytes64 => (row % 4) << 4, Swizzle.Bytes32 => (row % 2) << 4, _ => 0 };
            BitConverter.TryWriteBytes(memory.AsSpan((slice * SliceBytes) + (offset ^ moved)), TestKernel.Bits(type, value));
        }
    }

    /// <summary>What threads write must pass a fence before products read it; sums are nobody's before they are waited for; and products must be waited for.</summary>
    [Theory]
    [InlineData("fence.proxy.async.shared::cta;", "wgmma.wait_group.sync.aligned 0;", "", "")]
    [InlineData("", "wgmma.wait_group.sync.aligned 0;", "", "had no fence.proxy.async")]
    [InlineData("fence.proxy.async.shared::cta;", "", "", "a product that nobody has waited for")]
    [InlineData("fence.proxy.async.shared::cta;", "wgmma.wait_group.sync.aligned 0;", "bar.sync 0; st.shared.u32 [%r22], 0;", "")]
    [InlineData("fence.proxy.async.shared::cta;", "st.shared.u32 [%r22], 0; wgmma.wait_group.sync.aligned 0;", "", "had no fence.proxy.async|without a barrier")]
    public void Faults_around_products_are_found(string fence, string wait, string behind, string messages)
    {
        using var kernel = new TestKernel();
        string sums = "{%f0, %f1, %f2, %f3}";
        string body =
            $$"""
            shl.b32 %r2, %r0, 5; add.u32 %r22, %r1, %r2; mov.u32 %r3, 0;
            st.shared.v4.u32 [%r22], {%r3, %r3, %r3, %r3}; st.shared.v4.u32 [%r22+16], {%r3, %r3, %r3, %r3};
            {{fence}}
            bar.sync 0;
            shr.u32 %r30, %r1, 4; cvt.u64.u32 %rd20, %r30; mov.u64 %rd30, {{(1UL << 62) | (64UL << 32)}}; or.b64 %rd20, %rd20, %rd30;
            wgmma.fence.sync.aligned;
            wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {{sums}}, {%r3, %r3, %r3, %r3}, %rd20, 0, 1, 1, 0;
            wgmma.commit_group.sync.aligned;
            {{wait}}
            {{behind}}
            """;
        void Run() => kernel.Run(body, [], threads: 128, sharedBytes: 4096);
        if (messages.Length == 0)
        {
            Run();
            return;
        }

        string found = Assert.Throws<CudaEmulationException>(Run).Message;
        Assert.True(messages.Split('|').Any(message => found.Contains(message, StringComparison.Ordinal)), found);
    }

    [Fact]
    public void Sums_are_not_numbers_before_they_are_waited_for()
    {
        using var kernel = new TestKernel();
        CudaMemory early = kernel.Unwritten(128 * sizeof(float)), late = kernel.Unwritten(128 * sizeof(float));
        kernel.Run(
            $$"""
            shl.b32 %r2, %r0, 5; add.u32 %r22, %r1, %r2; mov.u32 %r3, 0x3C003C00;
            st.shared.v4.u32 [%r22], {%r3, %r3, %r3, %r3}; st.shared.v4.u32 [%r22+16], {%r3, %r3, %r3, %r3};
            fence.proxy.async.shared::cta; bar.sync 0;
            shr.u32 %r30, %r1, 4; cvt.u64.u32 %rd20, %r30; mov.u64 %rd30, {{(1UL << 62) | (64UL << 32)}}; or.b64 %rd20, %rd20, %rd30;
            mov.f32 %f0, 0f3F800000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;
            wgmma.fence.sync.aligned;
            wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1, %f2, %f3}, {%r3, %r3, %r3, %r3}, %rd20, 1, 1, 1, 0;
            wgmma.commit_group.sync.aligned;
            mul.wide.u32 %rd5, %r0, 4; add.u64 %rd0, %rd0, %rd5; add.u64 %rd1, %rd1, %rd5;
            st.global.f32 [%rd0], %f0;
            wgmma.wait_group.sync.aligned 0;
            st.global.f32 [%rd1], %f0;
            """,
            [early, late], threads: 128, sharedBytes: 4096);
        Assert.All(kernel.Read<float>(early), static x => Assert.True(float.IsNaN(x)));
        Assert.All(kernel.Read<float>(late), static x => Assert.Equal(17f, x));
    }
}
