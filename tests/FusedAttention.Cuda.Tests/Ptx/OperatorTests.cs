using FusedAttention.Cuda.Ptx;
using Xunit;

namespace FusedAttention.Cuda.Tests.Ptx;

/// <summary>Operators write what they say, and nothing where constants tell the result.</summary>
public sealed class OperatorTests
{
    [Fact]
    public void Integers_of_32_bits()
    {
        Int("add.s32 %r0, %a, %b", (a, b) => _ = a + b);
        Int("sub.s32 %r0, %a, %b", (a, b) => _ = a - b);
        Int("sub.s32 %r0, 0, %a", (a, b) => _ = -a);
        Int("mul.lo.s32 %r0, %a, %b", (a, b) => _ = a * b);
        Int("xor.b32 %r0, %a, -1", (a, b) => _ = ~a);
        Int("and.b32 %r0, %a, %b", (a, b) => _ = a & b);
        Int("or.b32 %r0, %a, %b", (a, b) => _ = a | b);
        Int("xor.b32 %r0, %a, %b", (a, b) => _ = a ^ b);
        Int("shl.b32 %r0, %a, 3", (a, b) => _ = a << 3);
        Int("shr.s32 %r0, %a, 3", (a, b) => _ = a >> 3);
        Int("shr.u32 %r0, %a, 3", (a, b) => _ = a >>> 3);
        Int("mad.lo.s32 %r0, %a, %b, 7", (a, b) => _ = I32.MultiplyAdd(a, b, 7));
        Int("min.s32 %r0, %a, %b", (a, b) => _ = I32.Min(a, b));
        Int("max.s32 %r0, %a, %b", (a, b) => _ = I32.Max(a, b));
        Int("div.u32 %r0, %a, %b", (a, b) => _ = I32.Quotient(a, b));
        Int("setp.lt.s32 %p0, %a, %b", (a, b) => _ = a < b);
        Int("setp.gt.s32 %p0, %a, %b", (a, b) => _ = a > b);
        Int("setp.le.s32 %p0, %a, %b", (a, b) => _ = a <= b);
        Int("setp.ge.s32 %p0, %a, %b", (a, b) => _ = a >= b);
        Int("setp.eq.s32 %p0, %a, %b", (a, b) => _ = a.Is(b));
        Int("setp.ne.s32 %p0, %a, %b", (a, b) => _ = a.IsNot(b));
        Int("setp.lt.u32 %p0, %a, %b", (a, b) => _ = a.IsBelow(b));
        Int("cvt.s64.s32 %rd0, %a", (a, b) => _ = a.Widen());
        Int("cvt.rn.f32.s32 %f0, %a", (a, b) => _ = a.ToF32());
        Int("mov.b32 %f0, %a", (a, b) => _ = a.AsF32());
        Int("mov.b32 %a, %b", (a, b) => a.Set(b));
        Int("add.s32 %a, %a, %b", (a, b) => a.Add(b));
    }

    [Fact]
    public void Integers_of_64_bits()
    {
        Long("add.s64 %rd0, %a, %b", (a, b) => _ = a + b);
        Long("sub.s64 %rd0, %a, %b", (a, b) => _ = a - b);
        Long("mul.lo.s64 %rd0, %a, %b", (a, b) => _ = a * b);
        Long("shl.b64 %rd0, %a, 2", (a, b) => _ = a << 2);
        Long("min.s64 %rd0, %a, %b", (a, b) => _ = I64.Min(a, b));
        Long("max.s64 %rd0, %a, %b", (a, b) => _ = I64.Max(a, b));
        Long("mad.lo.s64 %rd0, %a, 5, %b", (a, b) => _ = I64.MultiplyAdd(a, 5, b));
        Long("setp.lt.s64 %p0, %a, %b", (a, b) => _ = a < b);
        Long("setp.gt.s64 %p0, %a, %b", (a, b) => _ = a > b);
        Long("setp.le.s64 %p0, %a, %b", (a, b) => _ = a <= b);
        Long("setp.ge.s64 %p0, %a, %b", (a, b) => _ = a >= b);
        Long("setp.eq.s64 %p0, %a, %b", (a, b) => _ = a.Is(b));
        Long("setp.ne.s64 %p0, %a, %b", (a, b) => _ = a.IsNot(b));
        Long("cvt.u32.u64 %r0, %a", (a, b) => _ = a.ToI32());
        Long("cvt.rn.f32.s64 %f0, %a", (a, b) => _ = a.ToF32());
        Long("mov.b64 %a, %b", (a, b) => a.Set(b));
        Long("add.s64 %a, %a, %b", (a, b) => a.Add(b));
        Int("mul.wide.s32 %rd0, %a, %b", (a, b) => _ = I64.Product(a, b));
    }

    [Fact]
    public void Floats()
    {
        Float("add.f32 %f0, %a, %b", (a, b) => _ = a + b);
        Float("sub.f32 %f0, %a, %b", (a, b) => _ = a - b);
        Float("mul.f32 %f0, %a, %b", (a, b) => _ = a * b);
        Float("div.rn.f32 %f0, %a, %b", (a, b) => _ = a / b);
        Float("neg.f32 %f0, %a", (a, b) => _ = -a);
        Float("abs.f32 %f0, %a", (a, b) => _ = a.Abs());
        Float("fma.rn.f32 %f0, %a, %b, 0f3F800000", (a, b) => _ = F32.MultiplyAdd(a, b, 1));
        Float("min.f32 %f0, %a, %b", (a, b) => _ = F32.Min(a, b));
        Float("max.f32 %f0, %a, %b", (a, b) => _ = F32.Max(a, b));
        Float("setp.lt.f32 %p0, %a, %b", (a, b) => _ = a < b);
        Float("setp.gt.f32 %p0, %a, %b", (a, b) => _ = a > b);
        Float("setp.le.f32 %p0, %a, %b", (a, b) => _ = a <= b);
        Float("setp.ge.f32 %p0, %a, %b", (a, b) => _ = a >= b);
        Float("setp.eq.f32 %p0, %a, 0fFF800000", (a, b) => _ = a.Is(float.NegativeInfinity));
        Float("setp.neu.f32 %p0, %a, %b", (a, b) => _ = a.IsNot(b));
        Float("testp.finite.f32 %p0, %a", (a, b) => _ = a.IsFinite());
        Float("ex2.approx.ftz.f32 %f0, %a", (a, b) => _ = a.Exp2());
        Float("lg2.approx.f32 %f0, %a", (a, b) => _ = a.Log2());
        Float("rcp.rn.f32 %f0, %a", (a, b) => _ = a.Reciprocal());
        Float("rcp.approx.ftz.f32 %f0, %a", (a, b) => _ = a.ReciprocalApproximately());
        Float("mov.b32 %r0, %a", (a, b) => _ = a.AsI32());
        Float("mov.f32 %a, %b", (a, b) => a.Set(b));
        Float("add.f32 %a, %a, %b", (a, b) => a.Add(b));
        Float("mul.f32 %a, %a, %b", (a, b) => a.Multiply(b));
        Float("fma.rn.f32 %a, %b, %b, %a", (a, b) => a.AddProduct(b, b));
    }

    /// <summary>Constants are exact: subnormals, both zeros, infinities.</summary>
    [Theory]
    [InlineData(0f, "0f00000000")]
    [InlineData(-0f, "0f80000000")]
    [InlineData(1.44269504f, "0f3FB8AA3B")]
    [InlineData(1e-45f, "0f00000001")]
    [InlineData(float.PositiveInfinity, "0f7F800000")]
    public void Float_constants_are_bits(float constant, string text) => Float($"add.f32 %f0, %a, {text}", (a, b) => _ = a + constant);

    [Fact]
    public void Elements_of_16_bits()
    {
        Float("cvt.rn.f16.f32 %h0, %a", (a, b) => _ = B16.Of(ElementFormat.Float16, a));
        Float("cvt.rn.bf16.f32 %h0, %a", (a, b) => _ = B16.Of(ElementFormat.BFloat16, a));

        // The first one is the low half, which the instruction names last.
        Float("cvt.rn.f16x2.f32 %x0, %b, %a", (a, b) => _ = Pair.Of(ElementFormat.Float16, a, b));
        Float("cvt.rn.bf16x2.f32 %x0, %b, %a", (a, b) => _ = Pair.Of(ElementFormat.BFloat16, a, b));
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
            [seven + minus, seven - minus, seven * minus, seven & minus, seven | -1, seven ^ -1 & minus ^ 0, seven << 3, minus >> 1, minus >>> 2, I32.Min(seven, minus), I32.Max(seven, minus), I32.Quotient(7, 3)]).Select(static x => x.Constant!).ToArray());
        I64 far = 1L << 40;
        Assert.Equal(["1099511627783", "1099511627769", "7696581394432", "7", "1099511627776"], ((I64[])[far + 7, far - 7, far * 7, I64.Min(far, 7), I64.Max(far, 7)]).Select(static x => x.Constant!).ToArray());
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

    private static void Int(string instruction, Action<I32, I32> write) => Assert.Equal([instruction], Text.Of(k => write(I32.In(k).As("a"), I32.In(k).As("b"))).Select(Renumbered).ToArray());

    private static void Long(string instruction, Action<I64, I64> write) => Assert.Equal([instruction], Text.Of(k => write(I64.In(k).As("a"), I64.In(k).As("b"))).Select(Renumbered).ToArray());

    private static void Float(string instruction, Action<F32, F32> write) => Assert.Equal([instruction], Text.Of(k => write(F32.In(k).As("a"), F32.In(k).As("b"))).Select(Renumbered).ToArray());

    /// <summary>Registers with names have numbers too: a result of the same type is number 2.</summary>
    private static string Renumbered(string line) => line.Replace("%r2", "%r0", StringComparison.Ordinal).Replace("%rd2", "%rd0", StringComparison.Ordinal).Replace("%f2", "%f0", StringComparison.Ordinal);
}
