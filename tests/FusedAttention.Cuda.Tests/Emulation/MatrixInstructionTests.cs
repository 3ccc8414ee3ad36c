using FusedAttention.Cuda.Launching;
using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>Matrix instructions of the emulator, by the tables of the PTX ISA written down here once more: which lane holds which element.</summary>
public sealed class MatrixInstructionTests
{
    /// <summary>"Matrix Fragments for mma.m16n8k16 with floating point type", .f16 and .bf16: element i of the eight of A that a lane holds.</summary>
    private static (int Row, int Column) OfA(int lane, int i) =>
        (i is 0 or 1 or 4 or 5 ? lane >> 2 : (lane >> 2) + 8, i < 4 ? ((lane % 4) * 2) + (i & 1) : ((lane % 4) * 2) + (i & 1) + 8);

    /// <summary>Element i of the four of B.</summary>
    private static (int Row, int Column) OfB(int lane, int i) => (i < 2 ? ((lane % 4) * 2) + (i & 1) : ((lane % 4) * 2) + (i & 1) + 8, lane >> 2);

    /// <summary>Element i of the four of C and D.</summary>
    private static (int Row, int Column) OfC(int lane, int i) => (i < 2 ? lane >> 2 : (lane >> 2) + 8, ((lane % 4) * 2) + (i & 1));

    /// <summary>Small integers, whose sums are exact in any order.</summary>
    [Theory]
    [InlineData("f16")]
    [InlineData("bf16")]
    public void Products_are_those_of_the_matrices(string type)
    {
        var random = new Random(6);
        float[,] a = Numbers(random, 16, 16), b = Numbers(random, 16, 8), c = Numbers(random, 16, 8);
        ushort[] left = new ushort[32 * 8], right = new ushort[32 * 4];
        float[] sums = new float[32 * 4];
        for (int lane = 0; lane < 32; lane++)
        {
            for (int i = 0; i < 8; i++) left[(lane * 8) + i] = TestKernel.Bits(type, a[OfA(lane, i).Row, OfA(lane, i).Column]);
            for (int i = 0; i < 4; i++) right[(lane * 4) + i] = TestKernel.Bits(type, b[OfB(lane, i).Row, OfB(lane, i).Column]);
            for (int i = 0; i < 4; i++) sums[(lane * 4) + i] = c[OfC(lane, i).Row, OfC(lane, i).Column];
        }

        using var kernel = new TestKernel();
        CudaMemory result = kernel.Memory<float>(sums);
        kernel.Run(
            $$"""
            mul.wide.u32 %rd4, %r0, 16; mul.wide.u32 %rd5, %r0, 8;
            add.u64 %rd0, %rd0, %rd4; add.u64 %rd1, %rd1, %rd5; add.u64 %rd2, %rd2, %rd4;
            ld.global.v4.b32 {%r2, %r3, %r4, %r5}, [%rd0];
            ld.global.v2.b32 {%r6, %r7}, [%rd1];
            ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%rd2];
            mma.sync.aligned.m16n8k16.row.col.f32.{{type}}.{{type}}.f32 {%f4, %f5, %f6, %f7}, {%r2, %r3, %r4, %r5}, {%r6, %r7}, {%f0, %f1, %f2, %f3};
            st.global.v4.f32 [%rd2], {%f4, %f5, %f6, %f7};
            """,
            [kernel.Memory<ushort>(left), kernel.Memory<ushort>(right), result]);
        float[] actual = kernel.Read<float>(result);
        for (int lane = 0; lane < 32; lane++)
        {
            for (int i = 0; i < 4; i++)
            {
                (int row, int column) = OfC(lane, i);
                float expected = c[row, column];
                for (int k = 0; k < 16; k++) expected += a[row, k] * b[k, column];
                Assert.True(expected.Equals(actual[(lane * 4) + i]), $"row {row}, column {column} is {actual[(lane * 4) + i]}, not {expected}");
            }
        }
    }

    /// <summary>"Fragment layout in case of .num 1": a lane has two elements of the row of its number divided by four, or of the column.</summary>
    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(4, false)]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(4, true)]
    public void Matrices_are_loaded_by_rows_or_by_columns(int matrices, bool isTransposed)
    {
        // Row r of matrix m lies at 48 (8 m + r): not side by side, so that addresses count.
        ushort[] memory = [.. Enumerable.Range(0, 32 * 24).Select(static n => (ushort)(n * 7))];
        using var kernel = new TestKernel();
        CudaMemory result = kernel.Unwritten(32 * 4 * sizeof(uint));
        string registers = string.Join(", ", Enumerable.Range(4, matrices).Select(static n => $"%r{n}"));
        kernel.Run(
            $$"""
            mov.u32 %r4, 0; mov.u32 %r5, 0; mov.u32 %r6, 0; mov.u32 %r7, 0;
            mul.lo.u32 %r2, %r0, 48; cvt.u64.u32 %rd4, %r2; add.u64 %rd0, %rd0, %rd4; add.u32 %r2, %r2, %r1;
            ld.global.v4.b32 {%r10, %r11, %r12, %r13}, [%rd0];
            st.shared.v4.b32 [%r2], {%r10, %r11, %r12, %r13};
            bar.sync 0;
            ldmatrix.sync.aligned.m8n8.x{{matrices}}{{(isTransposed ? ".trans" : "")}}.shared.b16 { {{registers}} }, [%r2];
            mul.wide.u32 %rd5, %r0, 16; add.u64 %rd1, %rd1, %rd5;
            st.global.v4.b32 [%rd1], {%r4, %r5, %r6, %r7};
            """,
            [kernel.Memory<ushort>(memory), result],
            sharedBytes: 32 * 48);
        ushort[] actual = kernel.Read<ushort>(result);
        for (int lane = 0; lane < 32; lane++)
        {
            for (int m = 0; m < matrices; m++)
            {
                for (int half = 0; half < 2; half++)
                {
                    (int row, int column) = isTransposed ? ((2 * (lane % 4)) + half, lane / 4) : (lane / 4, (2 * (lane % 4)) + half);
                    Assert.Equal(memory[(((8 * m) + row) * 24) + column], actual[(lane * 8) + (2 * m) + half]);
                }
            }
        }
    }

    /// <summary>What is stored is what is loaded.</summary>
    [Theory]
    [InlineData("")]
    [InlineData(".trans")]
    public void Stored_matrices_come_back(string transposed)
    {
        uint[] numbers = [.. Enumerable.Range(0, 128).Select(static n => (uint)(n * 0x01230017))];
        using var kernel = new TestKernel();
        CudaMemory memory = kernel.Memory<uint>(numbers), result = kernel.Unwritten(128 * sizeof(uint));
        kernel.Run(
            $$"""
            mul.wide.u32 %rd4, %r0, 16; add.u64 %rd0, %rd0, %rd4; add.u64 %rd1, %rd1, %rd4;
            ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%rd0];
            shl.b32 %r2, %r0, 4; add.u32 %r2, %r2, %r1;
            stmatrix.sync.aligned.m8n8.x4{{transposed}}.shared.b16 [%r2], {%r4, %r5, %r6, %r7};
            bar.warp.sync 0xffffffff;
            ldmatrix.sync.aligned.m8n8.x4{{transposed}}.shared.b16 {%r8, %r9, %r10, %r11}, [%r2];
            st.global.v4.b32 [%rd1], {%r8, %r9, %r10, %r11};
            """,
            [memory, result],
            sharedBytes: 512);
        Assert.Equal(numbers, kernel.Read<uint>(result));
    }

    private static float[,] Numbers(Random random, int rows, int columns)
    {
        float[,] numbers = new float[rows, columns];
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < columns; column++) numbers[row, column] = random.Next(-9, 10);
        return numbers;
    }
}
