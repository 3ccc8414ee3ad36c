using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests.EmulatorTests;

/// <summary>Positions in the grid, function constants, parameter blocks, bindings with offsets.</summary>
public sealed class GridTests
{
    [Fact]
    public void Every_built_in_has_its_value()
    {
        using var kernel = new TestKernel("""
            kernel void positions(device uint* result [[buffer(0)]],
                uint3 in_grid [[thread_position_in_grid]], uint3 group [[threadgroup_position_in_grid]], ushort3 in_group [[thread_position_in_threadgroup]],
                uint3 group_size [[threads_per_threadgroup]], uint2 groups [[threadgroups_per_grid]], uint3 grid_size [[threads_per_grid]],
                uint index [[thread_index_in_threadgroup]], ushort lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
                uint simdgroups [[simdgroups_per_threadgroup]], uint width [[threads_per_simdgroup]])
            {
                uint linear = in_grid.x + grid_size.x * (in_grid.y + grid_size.y * in_grid.z);
                device uint* r = result + linear * 20u;
                r[0] = in_grid.x; r[1] = in_grid.y; r[2] = in_grid.z; r[3] = group.x; r[4] = group.y; r[5] = group.z;
                r[6] = in_group.x; r[7] = in_group.y; r[8] = in_group.z; r[9] = group_size.x; r[10] = group_size.y; r[11] = group_size.z;
                r[12] = groups.x; r[13] = groups.y; r[14] = grid_size.z; r[15] = index; r[16] = lane; r[17] = simdgroup; r[18] = simdgroups; r[19] = width;
            }
            """);
        (uint tx, uint ty, uint tz, uint gx, uint gy, uint gz) = (8, 6, 2, 3, 2, 2);
        kernel.Output<uint>(0, (int)(tx * ty * tz * gx * gy * gz * 20)).Run("positions", new GridSize(tx, ty, tz), new GridSize(gx, gy, gz));
        uint[] results = kernel.Read<uint>(0);
        for (uint z = 0; z < tz * gz; z++)
        {
            for (uint y = 0; y < ty * gy; y++)
            {
                for (uint x = 0; x < tx * gx; x++)
                {
                    uint index = (x % tx) + (tx * ((y % ty) + (ty * (z % tz))));
                    uint[] expected = [x, y, z, x / tx, y / ty, z / tz, x % tx, y % ty, z % tz, tx, ty, tz, gx, gy, tz * gz, index, index % 32, index / 32, 3, 32];
                    Assert.Equal(expected, results.AsSpan((int)(x + (tx * gx * (y + (ty * gy * z)))) * 20, 20));
                }
            }
        }
    }

    [Fact]
    public void Function_constants_have_the_values_of_the_launch()
    {
        using var kernel = new TestKernel("""
            FUNCTION_CONSTANT(bool, flag, 0);
            FUNCTION_CONSTANT(int, number, 1);
            FUNCTION_CONSTANT(uint, count, 2);
            FUNCTION_CONSTANT(float, factor, 5);
            kernel void constants(device float* result [[buffer(0)]]) {
                result[0] = flag ? 1.0f : 2.0f;
                result[1] = float(number);
                result[2] = float(count);
                result[3] = factor;
            }
            """);
        kernel.Constant(0, "flag", FunctionConstantType.Bool, 1).Constant(1, "number", FunctionConstantType.Int, -7).Constant(2, "count", FunctionConstantType.UInt, 9)
            .Constant(5, "factor", FunctionConstantType.Float, BitConverter.SingleToInt32Bits(0.75f)).Output<float>(0, 4).Run("constants", threads: 1);
        Assert.Equal([1, -7, 9, 0.75f], kernel.Read<float>(0));
    }

    [Fact]
    public void Parameters_and_offsets_arrive()
    {
        using var kernel = new TestKernel("""
            struct Numbers { long big; int small; float scale; };
            kernel void sums(device const int* input [[buffer(3)]], device long* result [[buffer(4)]], constant Numbers& numbers [[buffer(14)]]) {
                result[0] = input[0] + numbers.big + numbers.small + long(numbers.scale * 4.0f);
            }
            """);
        kernel.Input(3, 1, 20, 300).Output<long>(4, 2).Parameters(14, [.. BitConverter.GetBytes(1L << 40), .. BitConverter.GetBytes(5), .. BitConverter.GetBytes(0.5f)])
            .Rebind(3, buffer => buffer with { Offset = 8 }).Rebind(4, buffer => buffer with { Offset = 8 }).Run("sums", threads: 1);
        Assert.Equal([unchecked((long)0xFFBAFFBAFFBAFFBA), (1L << 40) + 300 + 5 + 2], kernel.Read<long>(4));
    }

    [Fact]
    public void A_launch_sees_what_the_one_before_it_wrote()
    {
        using var kernel = new TestKernel("kernel void twice(device int* values [[buffer(0)]], uint i [[thread_position_in_grid]]) { values[i] *= 2; }");
        kernel.Input(0, Enumerable.Range(0, 96).ToArray()).Rebind(0, buffer => buffer with { IsWritten = true }).Run("twice", threads: 32, groups: 3).Run("twice", threads: 32, groups: 3);
        Assert.Equal(Enumerable.Range(0, 96).Select(i => 4 * i), kernel.Read<int>(0));
    }
}
