using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests.EmulatorTests;

/// <summary>Simdgroup matrices: the lane map of the golden file, loads and stores, products against plain loops.</summary>
public sealed class MatrixTests
{
    [Fact]
    public void Lanes_hold_what_the_golden_file_says()
    {
        using var kernel = new TestKernel("""
            kernel void elements(device const float* input [[buffer(0)]], device float* result [[buffer(1)]], uint lane [[thread_index_in_simdgroup]]) {
                simdgroup_matrix<float, 8, 8> m;
                simdgroup_load(m, input, 8);
                result[2u * lane] = m.thread_elements()[0];
                result[2u * lane + 1u] = m.thread_elements()[1];
            }
            """);
        kernel.Input(0, Enumerable.Range(0, 64).Select(i => (float)i).ToArray()).Output<float>(1, 64).Run("elements", threads: 32);
        float[] results = kernel.Read<float>(1);
        string[] lines = [.. KernelSource.File("lane_map.txt").Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line[0] != '#')];
        Assert.Equal(32, lines.Length);
        for (int lane = 0; lane < 32; lane++)
        {
            (int row, int column) = ((int)results[2 * lane] / 8, (int)results[2 * lane] % 8);
            Assert.Equal($"{lane}: {row},{column} {(int)results[(2 * lane) + 1] / 8},{(int)results[(2 * lane) + 1] % 8}", lines[lane]);
        }
    }

    [Theory]
    [InlineData("float", "float")]
    [InlineData("half", "float")]
    [InlineData("bfloat", "float")]
    [InlineData("half", "half")]
    public void Products_agree_with_plain_loops(string factor, string sum)
    {
        // Origins, strides that are no multiples of 8, transposition, device and threadgroup memory, and the identity.
        using var kernel = new TestKernel($$"""
            kernel void product(device const float* left [[buffer(0)]], device const float* right [[buffer(1)]], device {{sum}}* result [[buffer(2)]], uint lane [[thread_index_in_simdgroup]]) {
                threadgroup {{factor}} a[9 * 11];
                threadgroup {{factor}} b[8 * 13];
                for (uint i = lane; i < 99u; i += 32u) a[i] = {{factor}}(left[i]);
                for (uint i = lane; i < 104u; i += 32u) b[i] = {{factor}}(right[i]);
                threadgroup_barrier(mem_flags::mem_threadgroup);
                simdgroup_matrix<{{factor}}, 8, 8> x, y;
                simdgroup_load(x, a, 11, ulong2(2, 1));
                simdgroup_load(y, b, 13, ulong2(0, 0), true);
                simdgroup_matrix<{{sum}}, 8, 8> z = make_filled_simdgroup_matrix<{{sum}}, 8, 8>({{sum}}(0.5f));
                simdgroup_multiply_accumulate(z, x, y, z);
                simdgroup_store(z, result, 9);
                simdgroup_matrix<{{sum}}, 8, 8> one = simdgroup_matrix<{{sum}}, 8, 8>({{sum}}(1.0f));
                simdgroup_multiply(z, z, one);
                simdgroup_store(z, result + 72, 10, ulong2(1, 1), true);
            }
            """);
        var random = new Random(5);
        float[] left = [.. Enumerable.Range(0, 99).Select(_ => random.Next(-8, 9) / 4f)], right = [.. Enumerable.Range(0, 104).Select(_ => random.Next(-8, 9) / 4f)];
        kernel.Input(0, left).Input(1, right);
        bool isFloat = string.Equals(sum, "float", StringComparison.Ordinal);
        float[] results = isFloat
            ? kernel.Output<float>(2, 72 + 100).Run("product", threads: 32).Read<float>(2)
            : [.. kernel.Output<Half>(2, 72 + 100).Run("product", threads: 32).Read<Half>(2).Select(x => (float)x)];
        for (int i = 0; i < 8; i++)
        {
            for (int j = 0; j < 8; j++)
            {
                float expected = 0.5f;
                for (int k = 0; k < 8; k++) expected += left[((i + 1) * 11) + k + 2] * right[(j * 13) + k];
                Assert.Equal(expected, results[(i * 9) + j]);
                Assert.Equal(expected, results[72 + ((j + 1) * 10) + i + 1]);
            }
        }
    }
}
