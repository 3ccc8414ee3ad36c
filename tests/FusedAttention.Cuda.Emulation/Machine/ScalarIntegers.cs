using System.Numerics;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Integer operations of one lane. Division by zero gives all ones, as the hardware does for numbers without sign; the ISA says nothing.</summary>
internal static class ScalarIntegers
{
    public readonly struct Divide : IScalar<uint, uint, uint>
    {
        public static uint Of(uint a, uint b) => b == 0 ? uint.MaxValue : a / b;
    }

    public readonly struct SignedDivide : IScalar<int, int, int>
    {
        public static int Of(int a, int b) => b == 0 ? -1 : b == -1 ? unchecked(-a) : a / b;
    }

    public readonly struct Remainder : IScalar<uint, uint, uint>
    {
        public static uint Of(uint a, uint b) => b == 0 ? a : a % b;
    }

    public readonly struct SignedRemainder : IScalar<int, int, int>
    {
        public static int Of(int a, int b) => b == 0 ? a : b == -1 ? 0 : a % b;
    }

    public readonly struct WideDivide : IScalar<ulong, ulong, ulong>
    {
        public static ulong Of(ulong a, ulong b) => b == 0 ? ulong.MaxValue : a / b;
    }

    public readonly struct WideSignedDivide : IScalar<long, long, long>
    {
        public static long Of(long a, long b) => b == 0 ? -1 : b == -1 ? unchecked(-a) : a / b;
    }

    public readonly struct WideRemainder : IScalar<ulong, ulong, ulong>
    {
        public static ulong Of(ulong a, ulong b) => b == 0 ? a : a % b;
    }

    public readonly struct WideSignedRemainder : IScalar<long, long, long>
    {
        public static long Of(long a, long b) => b == 0 ? a : b == -1 ? 0 : a % b;
    }

    public readonly struct MultiplyHigh : IScalar<uint, uint, uint>
    {
        public static uint Of(uint a, uint b) => (uint)(((ulong)a * b) >> 32);
    }

    public readonly struct SignedMultiplyHigh : IScalar<int, int, int>
    {
        public static int Of(int a, int b) => (int)(((long)a * b) >> 32);
    }

    public readonly struct WideMultiplyHigh : IScalar<ulong, ulong, ulong>
    {
        public static ulong Of(ulong a, ulong b) => Math.BigMul(a, b, out _);
    }

    public readonly struct WideSignedMultiplyHigh : IScalar<long, long, long>
    {
        public static long Of(long a, long b) => Math.BigMul(a, b, out _);
    }

    /// <summary>Distances beyond the width give 0, or the sign.</summary>
    public readonly struct WideShiftLeft : IScalar<ulong, ulong, uint>
    {
        public static ulong Of(ulong a, uint b) => b > 63 ? 0 : a << (int)b;
    }

    public readonly struct WideShiftRight : IScalar<ulong, ulong, uint>
    {
        public static ulong Of(ulong a, uint b) => b > 63 ? 0 : a >> (int)b;
    }

    public readonly struct WideSignedShiftRight : IScalar<long, long, uint>
    {
        public static long Of(long a, uint b) => a >> (int)Math.Min(b, 63);
    }

    public readonly struct PopulationCount : IScalar<uint, uint, uint>
    {
        public static uint Of(uint a, uint b) => (uint)BitOperations.PopCount(a);
    }

    public readonly struct LeadingZeros : IScalar<uint, uint, uint>
    {
        public static uint Of(uint a, uint b) => (uint)BitOperations.LeadingZeroCount(a);
    }

    public readonly struct ReverseBits : IScalar<uint, uint, uint>
    {
        public static uint Of(uint a, uint b)
        {
            uint result = 0;
            for (int bit = 0; bit < 32; bit++) result |= (a >> bit & 1) << (31 - bit);
            return result;
        }
    }
}
