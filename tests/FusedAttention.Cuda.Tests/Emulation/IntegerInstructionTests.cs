using System.Numerics;
using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>Integer instructions of the emulator against formulas, at the ends of their ranges and at random.</summary>
public sealed class IntegerInstructionTests
{
    private static readonly Dictionary<string, Func<uint, uint, uint, uint>> Narrow = new(StringComparer.Ordinal)
    {
        ["add.s32 %r5, %r2, %r3;"] = static (a, b, _) => a + b,
        ["sub.u32 %r5, %r2, %r3;"] = static (a, b, _) => a - b,
        ["mul.lo.s32 %r5, %r2, %r3;"] = static (a, b, _) => a * b,
        ["mul.hi.u32 %r5, %r2, %r3;"] = static (a, b, _) => (uint)(((BigInteger)a * b) >> 32),
        ["mul.hi.s32 %r5, %r2, %r3;"] = static (a, b, _) => (uint)(int)(((BigInteger)(int)a * (int)b) >> 32),
        ["mad.lo.s32 %r5, %r2, %r3, %r4;"] = static (a, b, c) => (a * b) + c,
        ["div.u32 %r5, %r2, %r3;"] = static (a, b, _) => b == 0 ? uint.MaxValue : a / b,
        ["rem.u32 %r5, %r2, %r3;"] = static (a, b, _) => b == 0 ? a : a % b,
        ["min.s32 %r5, %r2, %r3;"] = static (a, b, _) => (int)a < (int)b ? a : b,
        ["max.s32 %r5, %r2, %r3;"] = static (a, b, _) => (int)a > (int)b ? a : b,
        ["min.u32 %r5, %r2, %r3;"] = static (a, b, _) => a < b ? a : b,
        ["max.u32 %r5, %r2, %r3;"] = static (a, b, _) => a > b ? a : b,
        ["neg.s32 %r5, %r2;"] = static (a, _, _) => ~a + 1,
        ["abs.s32 %r5, %r2;"] = static (a, _, _) => (int)a < 0 ? ~a + 1 : a,
        ["not.b32 %r5, %r2;"] = static (a, _, _) => ~a,
        ["and.b32 %r5, %r2, %r3;"] = static (a, b, _) => a & b,
        ["or.b32 %r5, %r2, %r3;"] = static (a, b, _) => a | b,
        ["xor.b32 %r5, %r2, %r3;"] = static (a, b, _) => a ^ b,
        ["shl.b32 %r5, %r2, %r3;"] = static (a, b, _) => b >= 32 ? 0 : a << (int)b,
        ["shr.u32 %r5, %r2, %r3;"] = static (a, b, _) => b >= 32 ? 0 : a >> (int)b,
        ["shr.s32 %r5, %r2, %r3;"] = static (a, b, _) => b >= 32 ? ((int)a < 0 ? uint.MaxValue : 0) : (uint)((int)a >> (int)b),
        ["shl.b32 %r5, %r2, 7;"] = static (a, _, _) => a * 128,
        ["popc.b32 %r5, %r2;"] = static (a, _, _) => (uint)Enumerable.Range(0, 32).Count(n => (a >> n & 1) != 0),
        ["clz.b32 %r5, %r2;"] = static (a, _, _) => (uint)Enumerable.Range(0, 32).TakeWhile(n => (a >> (31 - n) & 1) == 0).Count(),
        ["brev.b32 %r5, %r2;"] = static (a, _, _) => (uint)Enumerable.Range(0, 32).Sum(n => (long)(a >> n & 1) << (31 - n)),
        ["lop3.b32 %r5, %r2, %r3, %r4, 0xE8;"] = static (a, b, c) => (a & b) | (b & c) | (a & c),
        ["lop3.b32 %r5, %r2, %r3, %r4, 0x96;"] = static (a, b, c) => a ^ b ^ c,
        ["prmt.b32 %r5, %r2, %r3, 0x5410;"] = static (a, b, _) => (a & 0xFFFF) | (b << 16),
        ["prmt.b32 %r5, %r2, %r3, 0x3276;"] = static (a, b, _) => ((b >> 16) & 0xFF) | ((b >> 24) << 8) | ((a & 0xFF0000) >> 0) | (a & 0xFF000000),
        ["prmt.b32 %r5, %r2, %r3, 0x0008;"] = static (a, _, _) => ((a & 0x80) != 0 ? 0xFFu : 0) | ((a & 0xFF) * 0x01010100),
        ["bfe.u32 %r5, %r2, 5, 9;"] = static (a, _, _) => a >> 5 & 0x1FF,
        ["bfe.s32 %r5, %r2, 28, 9;"] = static (a, _, _) => (uint)((int)a >> 28),
        ["bfe.s32 %r5, %r2, 3, 4;"] = static (a, _, _) => (uint)((int)(a << 25) >> 28),
        ["bfi.b32 %r5, %r2, %r3, 8, 12;"] = static (a, b, _) => (b & ~0xFFF00u) | ((a & 0xFFF) << 8),
        ["shf.l.wrap.b32 %r5, %r2, %r3, 9;"] = static (a, b, _) => (b << 9) | (a >> 23),
        ["shf.r.wrap.b32 %r5, %r2, %r3, %r4;"] = static (a, b, c) => (uint)((((ulong)b << 32) | a) >> (int)(c % 32)),
        ["shf.r.clamp.b32 %r5, %r2, %r3, 32;"] = static (_, b, _) => b,
        ["mov.b32 %r5, %r2;"] = static (a, _, _) => a,
        ["cvt.s32.s8 %r5, %r2;"] = static (a, _, _) => (uint)(sbyte)a,
        ["cvt.u32.u8 %r5, %r2;"] = static (a, _, _) => (byte)a,
        ["cvt.u32.u16 %r5, %r2;"] = static (a, _, _) => (ushort)a,
        ["cvt.sat.s8.s32 %r5, %r2;"] = static (a, _, _) => (uint)Math.Clamp((int)a, -128, 127),
        ["cvt.sat.u16.s32 %r5, %r2;"] = static (a, _, _) => (uint)Math.Clamp((int)a, 0, 65535),
        ["cvt.u8.u32 %r5, %r2;"] = static (a, _, _) => (byte)a,
        ["setp.lt.s32 %p1, %r2, %r3; selp.b32 %r5, %r3, %r4, %p1;"] = static (a, b, c) => (int)a < (int)b ? b : c,
        ["setp.lt.u32 %p1, %r2, %r3; selp.b32 %r5, %r3, %r4, %p1;"] = static (a, b, c) => a < b ? b : c,
        ["setp.ge.s32 %p1, %r2, %r3; selp.b32 %r5, 1, 0, %p1;"] = static (a, b, _) => (int)a >= (int)b ? 1u : 0,
        ["setp.gt.u32 %p1, %r2, %r3; selp.b32 %r5, 1, 0, %p1;"] = static (a, b, _) => a > b ? 1u : 0,
        ["setp.ne.s32 %p1, %r2, %r3; not.pred %p2, %p1; selp.b32 %r5, 1, 0, %p2;"] = static (a, b, _) => a == b ? 1u : 0,
        ["setp.eq.s32 %p1, %r2, %r3; setp.lt.and.s32 %p2|%p3, %r2, %r4, !%p1; selp.b32 %r5, 1, 0, %p2; @%p3 add.s32 %r5, %r5, 2;"] =
            static (a, b, c) => ((int)a < (int)c && a != b ? 1u : 0) + ((int)a >= (int)c && a != b ? 2u : 0),
        ["mov.b32 {%h1, %h2}, %r2; mov.b32 %r5, {%h2, %h1};"] = static (a, _, _) => (a >> 16) | (a << 16),
        ["mov.b64 %rd6, {%r2, %r3}; mov.b64 {_, %r5}, %rd6;"] = static (_, b, _) => b,
    };

    private static readonly Dictionary<string, Func<ulong, ulong, ulong, ulong>> Wide = new(StringComparer.Ordinal)
    {
        ["add.s64 %rd23, %rd20, %rd21;"] = static (a, b, _) => a + b,
        ["sub.s64 %rd23, %rd20, %rd21;"] = static (a, b, _) => a - b,
        ["mul.lo.s64 %rd23, %rd20, %rd21;"] = static (a, b, _) => (ulong)(((BigInteger)a * b) & ulong.MaxValue),
        ["mul.hi.u64 %rd23, %rd20, %rd21;"] = static (a, b, _) => (ulong)(((BigInteger)a * b) >> 64),
        ["mad.lo.s64 %rd23, %rd20, %rd21, %rd22;"] = static (a, b, c) => (a * b) + c,
        ["div.u64 %rd23, %rd20, %rd21;"] = static (a, b, _) => b == 0 ? ulong.MaxValue : a / b,
        ["min.s64 %rd23, %rd20, %rd21;"] = static (a, b, _) => (ulong)Math.Min((long)a, (long)b),
        ["max.u64 %rd23, %rd20, %rd21;"] = static (a, b, _) => Math.Max(a, b),
        ["and.b64 %rd23, %rd20, %rd21;"] = static (a, b, _) => a & b,
        ["shl.b64 %rd23, %rd20, 13;"] = static (a, _, _) => a << 13,
        ["shr.u64 %rd23, %rd20, 40;"] = static (a, _, _) => a >> 40,
        ["shr.s64 %rd23, %rd20, 70;"] = static (a, _, _) => (long)a < 0 ? ulong.MaxValue : 0,
        ["setp.lt.s64 %p1, %rd20, %rd21; selp.b64 %rd23, %rd21, %rd22, %p1;"] = static (a, b, c) => (long)a < (long)b ? b : c,
        ["setp.ge.u64 %p1, %rd20, %rd21; selp.b64 %rd23, %rd21, %rd22, %p1;"] = static (a, b, c) => a >= b ? b : c,
        ["cvt.u32.u64 %r5, %rd20; cvt.s64.s32 %rd23, %r5;"] = static (a, _, _) => (ulong)(int)a,
        ["cvt.u32.u64 %r5, %rd20; cvt.u64.u32 %rd23, %r5;"] = static (a, _, _) => (uint)a,
        ["cvt.u32.u64 %r5, %rd20; cvt.u32.u64 %r6, %rd21; mul.wide.s32 %rd23, %r5, %r6;"] = static (a, b, _) => (ulong)((long)(int)a * (int)b),
        ["cvt.u32.u64 %r5, %rd20; cvt.u32.u64 %r6, %rd21; mad.wide.u32 %rd23, %r5, %r6, %rd22;"] = static (a, b, c) => ((ulong)(uint)a * (uint)b) + c,
        ["cvt.u32.u64 %r5, %rd20; mul.wide.u32 %rd23, %r5, 80;"] = static (a, _, _) => (uint)a * 80UL,
    };

    [Fact]
    public void Instructions_of_32_bits_do_what_their_formulas_say()
    {
        var random = new Random(1);
        uint[] ends = [0, 1, 2, 31, 32, 33, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF, 0xFFFF, 0x10000, 0x12345678, 0xFEDCBA98];
        for (int pass = 0; pass < 3; pass++)
        {
            uint[] a = Lanes(), b = Lanes(), c = Lanes();
            foreach ((string instruction, Func<uint, uint, uint, uint> formula) in Narrow)
            {
                uint[] results = TestKernel.Lanes<uint, uint>(instruction, a, b, c);
                for (int lane = 0; lane < 32; lane++)
                    Assert.True(formula(a[lane], b[lane], c[lane]) == results[lane], $"{instruction} of {a[lane]:x}, {b[lane]:x}, {c[lane]:x} is {results[lane]:x}, not {formula(a[lane], b[lane], c[lane]):x}");
            }
        }

        uint[] Lanes() => [.. Enumerable.Range(0, 32).Select(_ => random.Next(2) == 0 ? ends[random.Next(ends.Length)] : (uint)random.NextInt64(1L << 32))];
    }

    [Fact]
    public void Instructions_of_64_bits_do_what_their_formulas_say()
    {
        var random = new Random(2);
        ulong[] ends = [0, 1, 2, 0xFFFFFFFF, 0x100000000, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, ulong.MaxValue, 0x80000000];
        for (int pass = 0; pass < 3; pass++)
        {
            ulong[] a = Lanes(), b = Lanes(), c = Lanes();
            foreach ((string instruction, Func<ulong, ulong, ulong, ulong> formula) in Wide)
            {
                ulong[] results = TestKernel.Lanes<ulong, ulong>(instruction, a, b, c);
                for (int lane = 0; lane < 32; lane++)
                    Assert.True(formula(a[lane], b[lane], c[lane]) == results[lane], $"{instruction} of {a[lane]:x}, {b[lane]:x}, {c[lane]:x} is {results[lane]:x}, not {formula(a[lane], b[lane], c[lane]):x}");
            }
        }

        ulong[] Lanes() => [.. Enumerable.Range(0, 32).Select(_ => random.Next(2) == 0 ? ends[random.Next(ends.Length)] : (ulong)random.NextInt64() * 3)];
    }

    /// <summary>In the lanes of a mask only: the others keep what they had.</summary>
    [Fact]
    public void Guarded_instructions_touch_the_lanes_of_their_guard()
    {
        uint[] lanes = [.. Enumerable.Range(0, 32).Select(static n => (uint)n)];
        string[] instructions = ["add.s32 %r5, %r2, 100;", "shl.b32 %r5, %r2, 1;", "mul.hi.u32 %r5, %r2, %r2;", "mov.u32 %r5, %laneid;", "selp.b32 %r5, %r2, 3, %p1;", "mad.lo.s32 %r5, %r2, 2, 1;", "cvt.u8.u32 %r5, %r2;"];
        Func<uint, uint>[] formulas = [static n => n + 100, static n => 2 * n, static _ => 0, static n => n, static n => n, static n => (2 * n) + 1, static n => n];
        for (int i = 0; i < instructions.Length; i++)
        {
            uint[] results = TestKernel.Lanes<uint, uint>($"mov.u32 %r5, 777; and.b32 %r6, %r2, 5; setp.eq.u32 %p1, %r6, 4; @%p1 {instructions[i]}", lanes);
            for (uint lane = 0; lane < 32; lane++) Assert.Equal((lane & 5) == 4 ? formulas[i](lane) : 777, results[lane]);
        }
    }
}
