using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>Float instructions of the emulator against scalar formulas, bit by bit: NaN, infinities, subnormals and zeros of both signs among the operands.</summary>
public sealed class FloatInstructionTests
{
    private const uint NotANumber = 0x7FFFFFFF;

    private static readonly float[] Ends =
    [
        0f, -0f, 1f, -1f, 1.5f, float.Epsilon, -float.Epsilon, 1.1754942e-38f, 1.17549435e-38f, -1.1754942e-38f, float.MaxValue, float.MinValue, float.PositiveInfinity, float.NegativeInfinity, float.NaN,
        16777217f, 0.3333333f, 1e-30f, 1e30f, 65504f, 65520f, 6e-8f, 3e-8f, 127.5f, -126.5f, -149.5f, 2.5f, -2.5f, 2147483648f, -3e9f,
    ];

    private static readonly Dictionary<string, Func<float, float, float, float>> Arithmetic = new(StringComparer.Ordinal)
    {
        ["add.f32 %f5, %f2, %f3;"] = static (a, b, _) => a + b,
        ["sub.f32 %f5, %f2, %f3;"] = static (a, b, _) => a - b,
        ["mul.f32 %f5, %f2, %f3;"] = static (a, b, _) => a * b,
        ["div.rn.f32 %f5, %f2, %f3;"] = static (a, b, _) => a / b,
        ["fma.rn.f32 %f5, %f2, %f3, %f4;"] = static (a, b, c) => MathF.FusedMultiplyAdd(a, b, c),
        ["add.ftz.f32 %f5, %f2, %f3;"] = static (a, b, _) => Flush(Flush(a) + Flush(b)),
        ["mul.ftz.f32 %f5, %f2, %f3;"] = static (a, b, _) => Flush(Flush(a) * Flush(b)),
        ["fma.rn.ftz.f32 %f5, %f2, %f3, %f4;"] = static (a, b, c) => Flush(MathF.FusedMultiplyAdd(Flush(a), Flush(b), Flush(c))),
        ["add.sat.f32 %f5, %f2, %f3;"] = static (a, b, _) => float.IsNaN(a + b) ? 0 : Math.Clamp(a + b, 0, 1),
        ["min.f32 %f5, %f2, %f3;"] = static (a, b, _) => float.IsNaN(a) ? b : float.IsNaN(b) ? a : MathF.Min(a, b),
        ["max.f32 %f5, %f2, %f3;"] = static (a, b, _) => float.IsNaN(a) ? b : float.IsNaN(b) ? a : MathF.Max(a, b),
        ["min.NaN.f32 %f5, %f2, %f3;"] = static (a, b, _) => MathF.Min(a, b),
        ["max.NaN.f32 %f5, %f2, %f3;"] = static (a, b, _) => MathF.Max(a, b),
        ["rcp.rn.f32 %f5, %f2;"] = static (a, _, _) => 1 / a,
        ["rcp.approx.ftz.f32 %f5, %f2;"] = static (a, _, _) => Flush(1 / Flush(a)),
        ["sqrt.rn.f32 %f5, %f2;"] = static (a, _, _) => MathF.Sqrt(a),
        ["neg.f32 %f5, %f2; add.f32 %f5, %f5, 0f80000000;"] = static (a, _, _) => -a + -0f,
        ["abs.f32 %f5, %f2; add.f32 %f5, %f5, 0f00000000;"] = static (a, _, _) => MathF.Abs(a) + 0f,
        ["cvt.rni.f32.f32 %f5, %f2;"] = static (a, _, _) => MathF.Round(a, MidpointRounding.ToEven),
        ["cvt.rmi.f32.f32 %f5, %f2;"] = static (a, _, _) => MathF.Floor(a),
        ["cvt.rzi.f32.f32 %f5, %f2;"] = static (a, _, _) => MathF.Truncate(a),
        ["setp.lt.f32 %p1, %f2, %f3; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, b, _) => a < b ? 1 : 0,
        ["setp.ge.f32 %p1, %f2, %f3; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, b, _) => a >= b ? 1 : 0,
        ["setp.ne.f32 %p1, %f2, %f3; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, b, _) => a < b || a > b ? 1 : 0,
        ["setp.neu.f32 %p1, %f2, %f3; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, b, _) => !(a == b) ? 1 : 0,
        ["setp.leu.f32 %p1, %f2, %f3; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, b, _) => !(a > b) ? 1 : 0,
        ["setp.gtu.f32 %p1, %f2, %f3; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, b, _) => !(a <= b) ? 1 : 0,
        ["setp.equ.f32 %p1, %f2, %f3; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, b, _) => a == b || float.IsNaN(a) || float.IsNaN(b) ? 1 : 0,
        ["setp.nan.f32 %p1, %f2, %f3; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, b, _) => float.IsNaN(a) || float.IsNaN(b) ? 1 : 0,
        ["testp.finite.f32 %p1, %f2; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, _, _) => float.IsFinite(a) ? 1 : 0,
        ["testp.notanumber.f32 %p1, %f2; selp.f32 %f5, 0f3F800000, 0f00000000, %p1;"] = static (a, _, _) => float.IsNaN(a) ? 1 : 0,
        ["copysign.f32 %f5, %f2, %f3; add.f32 %f5, %f5, %f5;"] = static (a, b, _) => MathF.CopySign(b, a) * 2,
        ["cvt.rn.f32.s32 %f5, %r2;"] = static (a, _, _) => BitConverter.SingleToInt32Bits(a),
        ["cvt.rn.f32.u32 %f5, %r2;"] = static (a, _, _) => BitConverter.SingleToUInt32Bits(a),
        ["cvt.rn.f16x2.f32 %r6, %f2, %f3; mov.b32 {%h1, %h2}, %r6; cvt.f32.f16 %f5, %h2;"] = static (a, _, _) => (float)(Half)a,
        ["cvt.rn.f16x2.f32 %r6, %f3, %f2; mov.b32 {%h1, %h2}, %r6; cvt.f32.f16 %f5, %h1;"] = static (a, _, _) => (float)(Half)a,
        ["cvt.rn.f16.f32 %h1, %f2; cvt.f32.f16 %f5, %h1;"] = static (a, _, _) => (float)(Half)a,
        ["cvt.rz.f16.f32 %h1, %f2; cvt.f32.f16 %f5, %h1;"] = static (a, _, _) => HalfTowards0(a),
        ["cvt.rn.bf16.f32 %h1, %f2; cvt.u32.u16 %r6, %h1; shl.b32 %r6, %r6, 16; mov.b32 %f5, %r6; add.f32 %f5, %f5, 0f80000000;"] = static (a, _, _) => (float)(BFloat16)a + -0f,
        ["cvt.rn.bf16x2.f32 %r6, %f2, %f3; and.b32 %r6, %r6, 0xFFFF0000; mov.b32 %f5, %r6; add.f32 %f5, %f5, 0f80000000;"] = static (a, _, _) => (float)(BFloat16)a + -0f,
    };

    [Fact]
    public void Instructions_do_what_their_formulas_say()
    {
        var random = new Random(3);
        for (int pass = 0; pass < 6; pass++)
        {
            float[] a = Lanes(), b = Lanes(), c = Lanes();
            foreach ((string instruction, Func<float, float, float, float> formula) in Arithmetic)
            {
                float[] results = TestKernel.Lanes<float, float>(instruction, a, b, c);
                for (int lane = 0; lane < 32; lane++) AssertBits(formula(a[lane], b[lane], c[lane]), results[lane], $"{instruction} of {a[lane]:R}, {b[lane]:R}, {c[lane]:R}");
            }
        }

        float[] Lanes() => [.. Enumerable.Range(0, 32).Select(_ => random.Next(2) == 0 ? Ends[random.Next(Ends.Length)] : BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue)))];
    }

    /// <summary>Against the exact result in decimal digits: the rounded one is on the right side of it, and the next float is on the other.</summary>
    [Theory]
    [InlineData("add.rm.f32", -1)]
    [InlineData("add.rp.f32", 1)]
    [InlineData("mul.rm.f32", -1)]
    [InlineData("mul.rp.f32", 1)]
    public void Directed_rounding_goes_its_way(string opcode, int direction)
    {
        var random = new Random(4);
        float[] a = [.. Enumerable.Range(0, 32).Select(_ => (random.NextSingle() - 0.5f) * 16)], b = [.. Enumerable.Range(0, 32).Select(_ => (random.NextSingle() - 0.5f) / 300)];
        float[] results = TestKernel.Lanes<float, float>($"{opcode} %f5, %f2, %f3;", a, b);
        for (int lane = 0; lane < 32; lane++)
        {
            // Sums and products of such floats have fewer than 53 bits.
            double exact = opcode[0] == 'a' ? (double)a[lane] + b[lane] : (double)a[lane] * b[lane];
            float next = direction < 0 ? MathF.BitIncrement(results[lane]) : MathF.BitDecrement(results[lane]);
            Assert.True(direction < 0 ? results[lane] <= exact && next > exact : results[lane] >= exact && next < exact, $"{opcode} {a[lane]:R}, {b[lane]:R} is {results[lane]:R}");
        }
    }

    [Theory]
    [InlineData("cvt.rni.s32.f32")]
    [InlineData("cvt.rzi.s32.f32")]
    [InlineData("cvt.rmi.s32.f32")]
    [InlineData("cvt.rpi.s32.f32")]
    public void Floats_become_integers_within_their_range(string opcode)
    {
        float[] a = [.. Ends.Take(30), 0.5f, -0.5f];
        uint[] results = TestKernel.Lanes<uint, uint>($"{opcode} %r5, %f2;", [.. a.Select(BitConverter.SingleToUInt32Bits)]);
        for (int lane = 0; lane < 32; lane++)
        {
            double rounded = opcode[5] switch { 'n' => Math.Round((double)a[lane], MidpointRounding.ToEven), 'z' => Math.Truncate((double)a[lane]), 'm' => Math.Floor((double)a[lane]), _ => Math.Ceiling((double)a[lane]) };
            int expected = double.IsNaN(rounded) ? 0 : rounded >= int.MaxValue ? int.MaxValue : rounded <= int.MinValue ? int.MinValue : (int)rounded;
            Assert.True(expected == (int)results[lane], $"{opcode} of {a[lane]:R} is {(int)results[lane]}, not {expected}");
        }
    }

    /// <summary>The nearest float but for a millionth of the arguments, and the exact one where there is one.</summary>
    [Fact]
    public void Powers_of_two_are_within_half_a_unit_and_a_little()
    {
        var random = new Random(5);
        for (int pass = 0; pass < 200; pass++)
        {
            float[] a = [.. Enumerable.Range(0, 32).Select(_ => (random.NextSingle() * 290) - 155)];
            if (pass == 0) a = [0f, -0f, 1, -1, 127, 128, -126, -127, -149, -150, -151, float.NaN, float.PositiveInfinity, float.NegativeInfinity, 0.5f, -0.5f, .. a[16..]];
            float[] all = TestKernel.Lanes<float, float>("ex2.approx.f32 %f5, %f2;", a), flushed = pass > 9 ? [] : TestKernel.Lanes<float, float>("ex2.approx.ftz.f32 %f5, %f2;", a);
            for (int lane = 0; lane < 32; lane++)
            {
                double exact = Math.Pow(2, a[lane]);
                if (float.IsNaN(a[lane]) || exact >= 3.4028235677973366e38 || a[lane] == MathF.Truncate(a[lane])) AssertBits((float)exact, all[lane], $"2^{a[lane]:R}");
                else Assert.True(Math.Abs(all[lane] - exact) <= 0.5001 * Math.Max(exact * Math.Pow(2, -23), 1.4012984643e-45), $"2^{a[lane]:R} is {all[lane]:R}");
                if (flushed.Length > 0) AssertBits(Flush(all[lane]), flushed[lane], $"2^{a[lane]:R}, flushed");
            }
        }
    }

    [Fact]
    public void Logarithms_and_the_hyperbolic_tangent_are_the_nearest_floats()
    {
        float[] a = [0.5f, 1, 2, 3, 1e-40f, 0, -1, float.PositiveInfinity, .. Enumerable.Range(1, 24).Select(static n => n * 0.37f)];
        float[] logarithms = TestKernel.Lanes<float, float>("lg2.approx.f32 %f5, %f2;", a), tangents = TestKernel.Lanes<float, float>("tanh.approx.f32 %f5, %f2;", a);
        float[] roots = TestKernel.Lanes<float, float>("rsqrt.approx.f32 %f5, %f2;", a);
        for (int lane = 0; lane < 32; lane++)
        {
            AssertBits((float)Math.Log2(a[lane]), logarithms[lane], $"log2 {a[lane]}");
            AssertBits((float)Math.Tanh(a[lane]), tangents[lane], $"tanh {a[lane]}");
            AssertBits((float)(1 / Math.Sqrt(a[lane])), roots[lane], $"1 / sqrt {a[lane]}");
        }
    }

    /// <summary>All 65,536 halves become the floats that the processor's own conversion gives, and come back.</summary>
    [Fact]
    public void All_halves_widen_and_come_back()
    {
        for (uint first = 0; first < 0x10000; first += 32)
        {
            uint[] bits = [.. Enumerable.Range(0, 32).Select(n => first + (uint)n)];
            float[] wide = TestKernel.Lanes<uint, float>("mov.b32 {%h1, %h2}, %r2; cvt.f32.f16 %f5, %h1;", bits);
            for (int lane = 0; lane < 32; lane++) AssertBits((float)BitConverter.UInt16BitsToHalf((ushort)bits[lane]), wide[lane], $"binary16 {bits[lane]:x4}");
            if (first % 1024 != 0) continue;
            uint[] back = TestKernel.Lanes<uint, uint>("mov.b32 {%h1, %h2}, %r2; cvt.f32.f16 %f5, %h1; cvt.rn.f16.f32 %h3, %f5; cvt.u32.u16 %r5, %h3;", bits);
            for (int lane = 0; lane < 32; lane++) Assert.True(back[lane] == (float.IsNaN(wide[lane]) ? 0x7FFF : bits[lane]), $"binary16 {bits[lane]:x4} comes back as {back[lane]:x4}");
        }
    }

    private static float Flush(float x) => float.IsSubnormal(x) ? MathF.CopySign(0, x) : x;

    private static float HalfTowards0(float x)
    {
        Half nearest = (Half)x;
        return MathF.Abs((float)nearest) > MathF.Abs(x) ? (float)Half.CopySign(Half.BitDecrement(Half.Abs(nearest)), nearest) : (float)nearest;
    }

    private static void AssertBits(float expected, float actual, string what)
    {
        uint bits = float.IsNaN(expected) ? NotANumber : BitConverter.SingleToUInt32Bits(expected);
        Assert.True(bits == BitConverter.SingleToUInt32Bits(actual), $"{what} is {actual:R} ({BitConverter.SingleToUInt32Bits(actual):x8}), not {expected:R} ({bits:x8})");
    }
}
