using FusedAttention.Cuda.Ptx;
using Xunit;

namespace FusedAttention.Cuda.Tests.Ptx;

/// <summary>Operators write what they say, and nothing where constants tell the result.</summary>
public sealed class OperatorTests
{
    [Fact]
    public void Integers_of_32_bits()
    {
        Expect("add.s32 %r0, %a, %b", (k, a, b) => _ = a + b);
        Expect("sub.s32 %r0, %a, %b", (k, a, b) => _ = a - b);
        Expect("sub.s32 %r0, 0, %a", (k, a, b) => _ = -a);
        Expect("mul.lo.s32 %r0, %a, %b", (k, a, b) => _ = a * b);
        Expect("xor.b32 %r0, %a, -1", (k, a, b) => _ = ~a);
        Expect("and.b32 %r0, %a, %b", (k, a, b) => _ = a & b);
        Expect("or.b32 %r0, %a, %b", (k, a, b) => _ = a | b);
        Expect("xor.b32 %r0, %a, %b", (k, a, b) => _ = a ^ b);
        Expect("shl.b32 %r0, %a, 3", (k, a, b) => _ = a << 3);
        Expect("shr.s32 %r0, %a, 3", (k, a, b) => _ = a >> 3);
        Expect("shr.u32 %r0, %a, 3", (k, a, b) => _ = a >>> 3);
        Expect("mad.lo.s32 %r0, %a, %b, 7", (k, a, b) => _ = I32.MultiplyAdd(a, b, 7));
        Expect("min.s32 %r0, %a, %b", (k, a, b) => _ = I32.Min(a, b));
        Expect("max.s32 %r0, %a, %b", (k, a, b) => _ = I32.Max(a, b));
        Expect("div.u32 %r0, %a, %b", (k, a, b) => _ = I32.Quotient(a, b));
        Expect("setp.lt.s32 %p0, %a, %b", (k, a, b) => _ = a < b);
        Expect("setp.gt.s32 %p0, %a, %b", (k, a, b) => _ = a > b);
        Expect("setp.le.s32 %p0, %a, %b", (k, a, b) => _ = a <= b);
        Expect("setp.ge.s32 %p0, %a, %b", (k, a, b) => _ = a >= b);
        Expect("setp.eq.s32 %p0, %a, %b", (k, a, b) => _ = a.Is(b));
        Expect("setp.ne.s32 %p0, %a, %b", (k, a, b) => _ = a.IsNot(b));
        Expect("setp.lt.u32 %p0, %a, %b", (k, a, b) => _ = a.IsBelow(b));
        Expect("cvt.s64.s32 %rd0, %a", (k, a, b) => _ = a.Widen());
        Expect("cvt.rn.f32.s32 %f0, %a", (k, a, b) => _ = a.ToF32());
        Expect("mov.b32 %f0, %a", (k, a, b) => _ = a.AsF32());
        Expect("mov.b32 %a, %b", (k, a, b) => a.Set(b));
        Expect("add.s32 %a, %a, %b", (k, a, b) => a.Add(b));
    }

    [Fact]
    public void Integers_of_64_bits()
    {
        Expect("add.s64 %rd0, %a, %b", (k, I64 a, I64 b) => _ = a + b);
        Expect("sub.s64 %rd0, %a, %b", (k, I64 a, I64 b) => _ = a - b);
        Expect("mul.lo.s64 %rd0, %a, %b", (k, I64 a, I64 b) => _ = a * b);
        Expect("shl.b64 %rd0, %a, 2", (k, I64 a, I64 b) => _ = a << 2);
        Expect("min.s64 %rd0, %a, %b", (k, I64 a, I64 b) => _ = I64.Min(a, b));
        Expect("max.s64 %rd0, %a, %b", (k, I64 a, I64 b) => _ = I64.Max(a, b));
        Expect("mad.lo.s64 %rd0, %a, 5, %b", (k, I64 a, I64 b) => _ = I64.MultiplyAdd(a, 5, b));
        Expect("setp.lt.s64 %p0, %a, %b", (k, I64 a, I64 b) => _ = a < b);
        Expect("setp.gt.s64 %p0, %a, %b", (k, I64 a, I64 b) => _ = a > b);
        Expect("setp.le.s64 %p0, %a, %b", (k, I64 a, I64 b) => _ = a <= b);
        Expect("setp.ge.s64 %p0, %a, %b", (k, I64 a, I64 b) => _ = a >= b);
        Expect("setp.eq.s64 %p0, %a, %b", (k, I64 a, I64 b) => _ = a.Is(b));
        Expect("setp.ne.s64 %p0, %a, %b", (k, I64 a, I64 b) => _ = a.IsNot(b));
        Expect("cvt.u32.u64 %r0, %a", (k, I64 a, I64 b) => _ = a.ToI32());
        Expect("cvt.rn.f32.s64 %f0, %a", (k, I64 a, I64 b) => _ = a.ToF32());
        Expect("mov.b64 %a, %b", (k, I64 a, I64 b) => a.Set(b));
        Expect("add.s64 %a, %a, %b", (k, I64 a, I64 b) => a.Add(b));
        Expect("mul.wide.s32 %rd0, %a, %b", (k, a, b) => _ = I64.Product(a, b));
    }

    [Fact]
    public void Floats()
    {
        Expect("add.f32 %f0, %a, %b", (k, F32 a, F32 b) => _ = a + b);
        Expect("sub.f32 %f0, %a, %b", (k, F32 a, F32 b) => _ = a - b);
        Expect("mul.f32 %f0, %a, %b", (k, F32 a, F32 b) => _ = a * b);
        Expect("div.rn.f32 %f0, %a, %b", (k, F32 a, F32 b) => _ = a / b);
        Expect("neg.f32 %f0, %a", (k, F32 a, F32 b) => _ = -a);
        Expect("abs.f32 %f0, %a", (k, F32 a, F32 b) => _ = a.Abs());
        Expect("fma.rn.f32 %f0, %a, %b, 0f3F800000", (k, F32 a, F32 b) => _ = F32.MultiplyAdd(a, b, 1));
        Expect("min.f32 %f0, %a, %b", (k, F32 a, F32 b) => _ = F32.Min(a, b));
        Expect("max.f32 %f0, %a, %b", (k, F32 a, F32 b) => _ = F32.Max(a, b));
        Expect("setp.lt.f32 %p0, %a, %b", (k, F32 a, F32 b) => _ = a < b);
        Expect("setp.gt.f32 %p0, %a, %b", (k, F32 a, F32 b) => _ = a > b);
        Expect("setp.le.f32 %p0, %a, %b", (k, F32 a, F32 b) => _ = a <= b);
        Expect("setp.ge.f32 %p0, %a, %b", (k, F32 a, F32 b) => _ = a >= b);
        Expect("setp.eq.f32 %p0, %a, 0fFF800000", (k, F32 a, F32 b) => _ = a.Is(float.NegativeInfinity));
        Expect("setp.neu.f32 %p0, %a, %b", (k, F32 a, F32 b) => _ = a.IsNot(b));
        Expect("testp.finite.f32 %p0, %a", (k, F32 a, F32 b) => _ = a.IsFinite());
        Expect("ex2.approx.ftz.f32 %f0, %a", (k, F32 a, F32 b) => _ = a.Exp2());
        Expect("lg2.approx.f32 %f0, %a", (k, F32 a, F32 b) => _ = a.Log2());
        Expect("rcp.rn.f32 %f0, %a", (k, F32 a, F32 b) => _ = a.Reciprocal());
        Expect("rcp.approx.ftz.f32 %f0, %a", (k, F32 a, F32 b) => _ = a.ReciprocalApproximately());
        Expect("mov.b32 %r0, %a", (k, F32 a, F32 b) => _ = a.AsI32());
        Expect("mov.f32 %a, %b", (k, F32 a, F32 b) => a.Set(b));
        Expect("add.f32 %a, %a, %b", (k, F32 a, F32 b) => a.Add(b));
        Expect("mul.f32 %a, %a, %b", (k, F32 a, F32 b) => a.Multiply(b));
        Expect("fma.rn.f32 %a, %b, %b, %a", (k, F32 a, F32 b) => a.AddProduct(b, b));
    }

    /// <summary>Constants are exact: subnormals, both zeros, infinities.</summary>
    [Theory]
    [InlineData(0f, "0f00000000")]
    [InlineData(-0f, "0f80000000")]
    [InlineData(1.44269504f, "0f3FB8AA3B")]
    [InlineData(1e-45f, "0f00000001")]
    [InlineData(float.PositiveInfinity, "0f7F800000")]
    public void Float_constants_are_bits(float constant, string text) => Expect($"add.f32 %f0, %a, {text}", (k, F32 a, F32 b) => _ = a + constant);

    [Fact]
    public void Elements_of_16_bits()
    {
        Expect("cvt.rn.f16.f32 %h0, %a", (k, F32 a, F32 b) => _ = B16.Of(ElementFormat.Float16, a));
        Expect("cvt.rn.bf16.f32 %h0, %a", (k, F32 a, F32 b) => _ = B16.Of(ElementFormat.BFloat16, a));

        // The first one is the low half, which the instruction names last.
        Expect("cvt.rn.f16x2.f32 %x0, %b, %a", (k, F32 a, F32 b) => _ = Pair.Of(ElementFormat.Float16, a, b));
        Expect("cvt.rn.bf16x2.f32 %x0, %b, %a", (k, F32 a, F32 b) => _ = Pair.Of(ElementFormat.BFloat16, a, b));
        Assert.Equal(["cvt.f32.f16 %f0, %h0"], Text.Of(static k => B16.In(k).Widen(ElementFormat.Float16)));
        Assert.Equal(["cvt.u32.u16 %r0, %h0", "shl.b32 %r1, %r0, 16", "mov.b32 %f0, %r1"], Text.Of(static k => B16.In(k).Widen(ElementFormat.BFloat16)));
        Assert.Equal(["mov.b32 {%h0, %h1}, %x0", "cvt.f32.f16 %f0, %h0", "cvt.f32.f16 %f1, %h1"], Text.Of(static k => Pair.In(k).Widen(ElementFormat.Float16)));
        Assert.Equal(
            ["mov.b32 %r0, %x0", "shl.b32 %r1, %r0, 16", "mov.b32 %f0, %r1", "and.b32 %r2, %r0, -65536", "mov.b32 %f1, %r2"],
            Text.Of(static k => Pair.In(k).Widen(ElementFormat.BFloat16)));
    }

    [Fact]
    public void Constants_fold()
    {
        I32 seven = 7, minus = -3;
        Assert.Equal(["4", "10", "-21", "5", "-1", "-6", "56", "-2", "1073741823", "-3", "7", "2"], ((I32[])
            [seven + minus, seven - minus, seven * minus, seven & minus, seven | -1, seven ^ -1 & minus ^ 0, seven << 3, minus >> 1, minus >>> 2, I32.Min(seven, minus), I32.Max(seven, minus), I32.Quotient(7, 3)]).Select(static x => x.Constant));
        I64 far = 1L << 40;
        Assert.Equal(["1099511627783", "1099511627769", "7696581394432", "7", "1099511627776"], ((I64[])[far + 7, far - 7, far * 7, I64.Min(far, 7), I64.Max(far, 7)]).Select(static x => x.Constant));
        Assert.Equal("7", seven.Widen().Constant);
        Assert.Throws<InvalidOperationException>(() => (F32)1 + 2);
        Assert.Throws<InvalidOperationException>(() => seven < 8);
    }

    [Fact]
    public void What_changes_nothing_is_not_written() => Assert.Empty(Text.Of(static k =>
    {
        I32 a = I32.In(k);
        I64 b = I64.In(k);
        Assert.All((I32[])[a + 0, 0 + a, a - 0, a * 1, 1 * a, a << 0, a >> 0, a >>> 0, I32.Quotient(a, 1)], x => Assert.Same(a, x));
        Assert.All((I64[])[b + 0, 0 + b, b - 0, b * 1, 1 * b, b << 0], x => Assert.Same(b, x));
    }));

    private static void Expect(string instruction, Action<PtxKernel, I32, I32> write) => Assert.Equal([instruction], Text.Of(k => write(k, I32.In(k).As("a"), I32.In(k).As("b"))).Select(Renumbered));

    private static void Expect(string instruction, Action<PtxKernel, I64, I64> write) => Assert.Equal([instruction], Text.Of(k => write(k, I64.In(k).As("a"), I64.In(k).As("b"))).Select(Renumbered));

    private static void Expect(string instruction, Action<PtxKernel, F32, F32> write) => Assert.Equal([instruction], Text.Of(k => write(k, F32.In(k).As("a"), F32.In(k).As("b"))).Select(Renumbered));

    /// <summary>Registers with names have numbers too: a result of the same type is number 2.</summary>
    private static string Renumbered(string line) => line.Replace("%r2", "%r0", StringComparison.Ordinal).Replace("%rd2", "%rd0", StringComparison.Ordinal).Replace("%f2", "%f0", StringComparison.Ordinal);
}
