using System.Numerics;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests.EmulatorTests;

/// <summary>The shim's types and functions against those of .NET.</summary>
public sealed class NumericsTests
{
    private static readonly float[] Inputs =
    [
        .. Enumerable.Range(0, 400).Select(i => (i - 200) / 16f), .. Enumerable.Range(0, 100).Select(i => MathF.ScaleB(1.37f, i - 50)),
        0f, -0f, float.PositiveInfinity, float.NegativeInfinity, float.NaN, float.MaxValue, -float.MaxValue, float.Epsilon, 1e-40f,
    ];

    [Fact]
    public void Sixteen_bit_types_widen_and_round_as_in_dotnet()
    {
        using var kernel = new TestKernel("""
            kernel void convert(device const bfloat* b [[buffer(0)]], device const half* h [[buffer(1)]], device float* b_wide [[buffer(2)]], device float* h_wide [[buffer(3)]],
                                device const float* f [[buffer(4)]], device bfloat* b_narrow [[buffer(5)]], device half* h_narrow [[buffer(6)]], constant bfloat& one [[buffer(7)]],
                                uint i [[thread_position_in_grid]]) {
                bfloat x = b[i];
                b_wide[i] = x;
                h_wide[i] = float(h[i]) + 0.0f * float(one);
                b_narrow[i] = bfloat(f[i]);
                h_narrow[i] = half(f[i]);
            }
            """);
        ushort[] bits = [.. Enumerable.Range(0, 65536).Select(i => (ushort)i)];
        var random = new Random(11);
        float[] floats = [.. Enumerable.Range(0, 65536).Select(i => i < Inputs.Length ? Inputs[i] : BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue)))];
        for (int i = 1000; i < 40000; i++) floats[i] = (float)BitConverter.UInt16BitsToHalf((ushort)i) * (i % 3 == 0 ? 1.00024414f : 1.00048828f); // between two halves, or next to the middle
        kernel.Input(0, bits).Input(1, bits).Output<float>(2, 65536).Output<float>(3, 65536).Input(4, floats).Output<ushort>(5, 65536).Output<Half>(6, 65536).Parameters(7, 0x80, 0x3F)
            .Run("convert", threads: 256, groups: 256);
        float[] wideB = kernel.Read<float>(2), wideH = kernel.Read<float>(3);
        ushort[] narrowB = kernel.Read<ushort>(5);
        Half[] narrowH = kernel.Read<Half>(6);
        for (int i = 0; i < 65536; i++)
        {
            Assert.Equal((float)BFloat16.FromBits((ushort)i), wideB[i]);
            Assert.Equal((float)BitConverter.UInt16BitsToHalf((ushort)i), wideH[i]);
            Assert.Equal((Half)floats[i], narrowH[i]);
            if (!float.IsNaN(floats[i])) Assert.Equal(((BFloat16)floats[i]).ToBits(), narrowB[i]);
            else Assert.True(float.IsNaN((float)BFloat16.FromBits(narrowB[i])));
        }
    }

    [Fact]
    public void Functions_of_one_number()
    {
        (string Name, Func<float, float> Expected, int Ulps)[] functions =
        [
            ("exp", MathF.Exp, 2), ("exp2", x => (float)Math.Pow(2, x), 2), ("log", MathF.Log, 2), ("log2", MathF.Log2, 2), ("log10", MathF.Log10, 2), ("sqrt", MathF.Sqrt, 0),
            ("rsqrt", x => (float)(1 / Math.Sqrt(x)), 2), ("sin", MathF.Sin, 2), ("cos", MathF.Cos, 2), ("tan", MathF.Tan, 2), ("tanh", MathF.Tanh, 2), ("sinh", MathF.Sinh, 2), ("cosh", MathF.Cosh, 2),
            ("fabs", MathF.Abs, 0), ("floor", MathF.Floor, 0), ("ceil", MathF.Ceiling, 0), ("rint", MathF.Round, 0), ("trunc", MathF.Truncate, 0),
            ("round", x => MathF.Round(x, MidpointRounding.AwayFromZero), 0), ("fast::exp2", x => (float)Math.Pow(2, x), 2), ("precise::tanh", MathF.Tanh, 2),
            ("sign", x => float.IsNaN(x) ? float.NaN : Math.Sign(x), 0), ("float(isnan(x))*1+", x => (float.IsNaN(x) ? 1 : 0) + x, 0), ("float(isinf(x))+", x => (float.IsInfinity(x) ? 1 : 0) + x, 0),
            ("float(signbit(x))+", x => (float.IsNegative(x) ? 1 : 0) + x, 0), ("as_type<float>(as_type<uint>(x))+", x => x + x, 0),
        ];
        using var kernel = new TestKernel($$"""
            kernel void functions(device const float* input [[buffer(0)]], device float* result [[buffer(1)]], uint i [[thread_position_in_grid]]) {
                float x = input[i];
                device float* r = result + i * {{functions.Length}}u;
                {{string.Join('\n', functions.Select((function, n) => $"r[{n}] = {function.Name}(x);"))}}
            }
            """);
        kernel.Input(0, Inputs).Output<float>(1, Inputs.Length * functions.Length).Run("functions", threads: 1, groups: Inputs.Length);
        float[] results = kernel.Read<float>(1);
        for (int i = 0; i < Inputs.Length; i++)
        {
            for (int n = 0; n < functions.Length; n++)
            {
                // Angles so large that the reduction decides are no concern here.
                if (functions[n].Name is "sin" or "cos" or "tan" && MathF.Abs(Inputs[i]) > 1e5f) continue;
                AssertClose(functions[n].Expected(Inputs[i]), results[(i * functions.Length) + n], functions[n].Ulps, $"{functions[n].Name}({Inputs[i]:R})");
            }
        }
    }

    [Fact]
    public void Functions_of_several_numbers()
    {
        (string Expression, Func<float, float, float, float> Expected)[] functions =
        [
            ("fma(x, y, z)", MathF.FusedMultiplyAdd), ("max(x, y)", (x, y, _) => MathF.Max(x, y)), ("min(x, y)", (x, y, _) => MathF.Min(x, y)), ("fmax(x, y)", (x, y, _) => MathF.Max(x, y)), ("fmin(x, y)", (x, y, _) => MathF.Min(x, y)), ("fast::max(x, y)", (x, y, _) => MathF.Max(x, y)),
            ("clamp(x, min(y, z), max(y, z))", (x, y, z) => Math.Clamp(x, Math.Min(y, z), Math.Max(y, z))), ("fmod(x, y)", (x, y, _) => x % y),
            ("copysign(x, y)", (x, y, _) => MathF.CopySign(x, y)), ("step(x, y)", (x, y, _) => y < x ? 0 : 1), ("mix(x, y, 0.25f)", (x, y, _) => x + ((y - x) * 0.25f)),
            ("select(x, y, z > 0.0f)", (x, y, z) => z > 0 ? y : x), ("saturate(x)", (x, _, _) => Math.Clamp(x, 0, 1)), ("fract(x)", (x, _, _) => x - MathF.Floor(x)),
            ("ldexp(x, 3)", (x, _, _) => x * 8), ("pow(fabs(x), 2.0f)", (x, _, _) => x * x), ("dot(float2(x, y), float2(z, 2.0f))", (x, y, z) => (x * z) + (y * 2)),
            ("float(max(int(x), int(y)))", (x, y, _) => Math.Max((int)x, (int)y)), ("float(min(uint(fabs(x)), 3u))", (x, _, _) => Math.Min((uint)Math.Abs(x), 3)),
            ("float(clamp(int(x), -2, 5))", (x, _, _) => Math.Clamp((int)x, -2, 5)), ("float(popcount(uint(fabs(x))))", (x, _, _) => BitOperations.PopCount((uint)Math.Abs(x))),
            ("float(clz(uint(fabs(x))))", (x, _, _) => BitOperations.LeadingZeroCount((uint)Math.Abs(x))), ("float(ctz(uint(fabs(x))))", (x, _, _) => BitOperations.TrailingZeroCount((uint)Math.Abs(x))),
            ("float(mulhi(uint(fabs(x)) << 28, 1u << 30))", (x, _, _) => (uint)((((ulong)Math.Abs(x) << 28) & uint.MaxValue) >> 2)), ("float(abs(int(x)))", (x, _, _) => Math.Abs((int)x)),
            ("float4(x, float2(y, z), 1.0f).z", (_, _, z) => z), ("float3(float2(x, y), z).y", (_, y, _) => y), ("float4(half4(float4(x, y, z, 8.0f))).x", (x, _, _) => x),
            ("float(uint2(uint(fabs(x)), 7u).x)", (x, _, _) => (uint)Math.Abs(x)), ("float4(x).w", (x, _, _) => x), ("float2(int2(int(x), int(y))).y", (_, y, _) => (int)y),
            ("float3(packed(x, y, z).v).y", (_, y, _) => y), ("max(float4(x), float4(y)).z", (x, y, _) => Math.Max(x, y)), ("fma(float2(x), float2(y), float2(z)).y", MathF.FusedMultiplyAdd),
            ("float2(as_type<half2>(as_type<uint>(half2(float2(x, y))))).y", (_, y, _) => y), ("float4(bfloat4(float4(x, y, z, 1.0f))).z", (_, _, z) => z), ("float(half(x) * half(2.0f))", (x, _, _) => x * 2),
        ];
        using var kernel = new TestKernel($$"""
            struct packed { packed_float3 v; packed(float x, float y, float z) { v.x = x; v.y = y; v.z = z; } };
            kernel void functions(device const float* input [[buffer(0)]], device float* result [[buffer(1)]], uint i [[thread_position_in_grid]]) {
                float x = input[3u * i], y = input[3u * i + 1u], z = input[3u * i + 2u];
                device float* r = result + i * {{functions.Length}}u;
                {{string.Join('\n', functions.Select((function, n) => $"r[{n}] = {function.Expression};"))}}
            }
            """);
        float[] inputs = [.. Enumerable.Range(0, 300).Select(i => (((i * 17) % 41) - 20) / 4f)];
        kernel.Input(0, inputs).Output<float>(1, 100 * functions.Length).Run("functions", threads: 1, groups: 100);
        float[] results = kernel.Read<float>(1);
        for (int i = 0; i < 100; i++)
        {
            (float x, float y, float z) = (inputs[3 * i], inputs[(3 * i) + 1], inputs[(3 * i) + 2]);
            for (int n = 0; n < functions.Length; n++) AssertClose(functions[n].Expected(x, y, z), results[(i * functions.Length) + n], 2, $"{functions[n].Expression} of {x}, {y}, {z}");
        }
    }

    private static void AssertClose(float expected, float actual, int ulps, string what)
    {
        if (float.IsNaN(expected) ? float.IsNaN(actual) : expected == actual) return;
        long distance = Math.Abs((long)BitConverter.SingleToInt32Bits(expected) - BitConverter.SingleToInt32Bits(actual));
        Assert.True(distance <= ulps && float.IsNegative(expected) == float.IsNegative(actual), $"{what} is {actual:R} and not {expected:R}");
    }
}
