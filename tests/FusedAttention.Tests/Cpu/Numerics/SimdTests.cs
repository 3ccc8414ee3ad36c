using System.Runtime.Intrinsics;
using FusedAttention.Cpu;
using FusedAttention.Cpu.Numerics;
using Xunit;

namespace FusedAttention.Tests.Cpu.Numerics;

/// <summary>The vector operations of each instruction set against the framework's scalar ones and double precision.</summary>
public sealed unsafe class SimdTests
{
    [Theory]
    [InlineData(CpuInstructionSet.Scalar)]
    [InlineData(CpuInstructionSet.Vector128)]
    [InlineData(CpuInstructionSet.Avx2)]
    [InlineData(CpuInstructionSet.Avx512)]
    public void Operations_agree(CpuInstructionSet variant)
    {
        Assert.SkipUnless(KernelSelector.IsSupported(variant), $"{variant} is not available here.");
        switch (variant)
        {
            case CpuInstructionSet.Scalar: Check<ScalarSimd, float>(); break;
            case CpuInstructionSet.Vector128: Check<Vector128Simd, Vector128<float>>(); break;
            case CpuInstructionSet.Avx2: Check<Avx2Simd, Vector256<float>>(); break;
            default: Check<Avx512Simd, Vector512<float>>(); break;
        }
    }

    private static void Check<TS, TV>()
        where TS : struct, ISimd<TV>
        where TV : unmanaged
    {
        Exponential<TS, TV>();
        HyperbolicTangent<TS, TV>();
        AllHalves<TS, TV>();
        AllBytes<TS, TV>();
        Narrowing<TS, TV>();
        Specials<TS, TV>();
    }

    private static void Exponential<TS, TV>()
        where TS : struct, ISimd<TV>
        where TV : unmanaged
    {
        Assert.Equal(1f, Elementary<TS, TV>.Exp2(0f));
        Assert.Equal(0f, Elementary<TS, TV>.Exp2(float.NegativeInfinity));
        Assert.Equal(0f, Elementary<TS, TV>.Exp2(-126.01f));
        Assert.True(float.IsNaN(Elementary<TS, TV>.Exp2(float.NaN)));
        var random = new Random(1);
        for (int i = 0; i < 200_000; i++)
        {
            float x = (float)(random.NextDouble() * -126);
            double expected = Math.Pow(2, x);
            Assert.True(Math.Abs(Elementary<TS, TV>.Exp2(x) - expected) <= 2e-7 * expected, $"2^{x:R}");
        }
    }

    private static void HyperbolicTangent<TS, TV>()
        where TS : struct, ISimd<TV>
        where TV : unmanaged
    {
        Assert.Equal(1f, TS.First(Elementary<TS, TV>.Tanh(TS.Create(float.PositiveInfinity))));
        Assert.Equal(-1f, TS.First(Elementary<TS, TV>.Tanh(TS.Create(-1e30f))));
        Assert.True(float.IsNaN(TS.First(Elementary<TS, TV>.Tanh(TS.Create(float.NaN)))));
        var random = new Random(2);
        for (int i = 0; i < 200_000; i++)
        {
            float x = (float)((random.NextDouble() * 24) - 12) * (float)Math.Pow(2, -random.Next(12));
            double expected = Math.Tanh(x);
            Assert.True(Math.Abs(TS.First(Elementary<TS, TV>.Tanh(TS.Create(x))) - expected) <= 4e-7 * Math.Abs(expected), $"tanh({x:R})");
        }
    }

    private static void AllHalves<TS, TV>()
        where TS : struct, ISimd<TV>
        where TV : unmanaged
    {
        ushort* bits = stackalloc ushort[TS.Width];
        float* widened = stackalloc float[TS.Width];
        for (int first = 0; first < 65536; first += TS.Width)
        {
            for (int i = 0; i < TS.Width; i++) bits[i] = (ushort)(first + i);
            TS.Store(widened, TS.LoadHalf(bits));
            for (int i = 0; i < TS.Width; i++) AssertSame((float)BitConverter.UInt16BitsToHalf(bits[i]), widened[i]);
            TS.Store(widened, TS.LoadHalfUnrebased(bits));
            for (int i = 0; i < TS.Width; i++)
            {
                Half half = BitConverter.UInt16BitsToHalf(bits[i]);
                if (Half.IsFinite(half)) AssertSame((float)half, widened[i] * HalfBits.Rebase);
            }

            TS.Store(widened, TS.LoadBFloat16(bits));
            for (int i = 0; i < TS.Width; i++) AssertSame(BFloat16.FromBits(bits[i]), widened[i]);
        }
    }

    private static void AllBytes<TS, TV>()
        where TS : struct, ISimd<TV>
        where TV : unmanaged
    {
        byte* bits = stackalloc byte[TS.Width];
        float* widened = stackalloc float[TS.Width];
        for (int first = 0; first < 256; first += TS.Width)
        {
            for (int i = 0; i < TS.Width; i++) bits[i] = (byte)(first + i);
            TS.Store(widened, TS.LoadInt8((sbyte*)bits));
            for (int i = 0; i < TS.Width; i++) Assert.Equal((sbyte)bits[i], widened[i]);
            TS.Store(widened, TS.LoadFloat8(bits));
            for (int i = 0; i < TS.Width; i++) AssertSame(Float8E4M3.FromBits(bits[i]), widened[i]);
            TS.Store(widened, TS.LoadFiniteFloat8(bits));
            for (int i = 0; i < TS.Width; i++) AssertSame((bits[i] & 0x7F) == 0x7F ? MathF.CopySign(Float8Bits.NaNValue, (sbyte)bits[i]) : Float8E4M3.FromBits(bits[i]), widened[i]);
        }

        // Every scale that a block may have.
        byte* block = stackalloc byte[Q8Block.SizeInBytes];
        for (int i = 0; i < Q8Block.Length; i++) block[sizeof(ushort) + i] = (byte)(i - 3);
        for (int scale = 0; scale <= ushort.MaxValue; scale++)
        {
            *(ushort*)block = (ushort)scale;
            TS.Store(widened, Q8BlockElement.Load<TS, TV>(block, 0));
            for (int i = 0; i < TS.Width; i++) AssertSame((i - 3) * (float)BitConverter.UInt16BitsToHalf((ushort)scale), widened[i]);
            AssertSame(2 * (float)BitConverter.UInt16BitsToHalf((ushort)scale), Q8BlockElement.LoadOne(block, 5));
        }
    }

    private static void Narrowing<TS, TV>()
        where TS : struct, ISimd<TV>
        where TV : unmanaged
    {
        float* values = stackalloc float[TS.Width];
        ushort* narrowed = stackalloc ushort[TS.Width];
        var random = new Random(3);
        float[] edges = [0, -0f, 65504, 65519.996f, 65520, 65536, 5.9604645e-8f, 2.9802322e-8f, 2.98023242e-8f, 6.1035156e-5f, 6.1005353e-5f, 1e-30f, float.MaxValue, float.PositiveInfinity, float.NegativeInfinity, float.NaN];
        for (int round = 0; round < 50_000; round++)
        {
            for (int i = 0; i < TS.Width; i++)
            {
                values[i] = round < edges.Length ? edges[round] : BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue));
                if (round % 2 == 1 && round >= edges.Length) values[i] = (float)((random.NextDouble() - 0.5) * Math.Pow(2, random.Next(-28, 20)));
            }

            TS.StoreHalf(narrowed, TS.Load(values));
            for (int i = 0; i < TS.Width; i++) AssertSame((float)(Half)values[i], (float)BitConverter.UInt16BitsToHalf(narrowed[i]));
            TS.StoreBFloat16(narrowed, TS.Load(values));
            for (int i = 0; i < TS.Width; i++) AssertSame((BFloat16)values[i], BFloat16.FromBits(narrowed[i]));
        }
    }

    /// <summary>One infinity or NaN at every place of rows of several lengths is found, and the largest finite value is not taken for one.</summary>
    private static void Specials<TS, TV>()
        where TS : struct, ISimd<TV>
        where TV : unmanaged
    {
        const int Rows = 3;
        nint* rows = stackalloc nint[Rows];
        foreach (int dim in (int[])[1, 8, 33, 64, 128, 161])
        {
            ushort[] data = new ushort[Rows * dim];
            Array.Fill(data, BitConverter.HalfToUInt16Bits(Half.MinValue));
            fixed (ushort* start = data)
            {
                for (int r = 0; r < Rows; r++) rows[r] = (nint)(start + (r * dim));
                Assert.False(TS.AnySpecialHalf(rows, 0, Rows, dim));
                for (int i = 0; i < data.Length; i++)
                {
                    ushort before = start[i];
                    start[i] = BitConverter.HalfToUInt16Bits(i % 2 == 0 ? Half.NegativeInfinity : Half.NaN);
                    Assert.True(TS.AnySpecialHalf(rows, 0, Rows, dim), $"dim {dim}, element {i}");
                    start[i] = before;
                }
            }
        }
    }

    private static void AssertSame(float expected, float actual)
    {
        if (float.IsNaN(expected)) Assert.True(float.IsNaN(actual));
        else Assert.Equal(BitConverter.SingleToInt32Bits(expected), BitConverter.SingleToInt32Bits(actual));
    }
}
