using System.Runtime.CompilerServices;

namespace FusedAttention.Cpu.Numerics;

/// <summary>8-bit whole numbers; their scales are applied to scores and weights.</summary>
internal readonly unsafe struct Int8Element : IElement
{
    public static int Size => sizeof(sbyte);

    public static nint Bytes(nint count) => count;

    public static bool TakesScales => true;

    public static float Largest => 128;

    public static bool HasSpecials => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.LoadInt8((sbyte*)source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source, nint index) => ((sbyte*)source)[index];
}

/// <summary>8-bit floats, <see cref="Float8E4M3"/>; their scales are applied to scores and weights.</summary>
internal readonly unsafe struct Float8E4M3Element : IElement
{
    public static int Size => sizeof(byte);

    public static nint Bytes(nint count) => count;

    public static bool TakesScales => true;

    public static float Largest => 448;

    public static bool HasSpecials => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.LoadFloat8(source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source, nint index) => ScalarSimd.LoadFloat8(source + index);
}

/// <summary><see cref="Float8E4M3Element"/> where no code is NaN (<see cref="Float8Bits.AnyNaN"/>): half the work.</summary>
internal readonly unsafe struct FiniteFloat8E4M3Element : IElement
{
    public static int Size => sizeof(byte);

    public static nint Bytes(nint count) => count;

    public static bool TakesScales => true;

    public static float Largest => 448;

    public static bool HasSpecials => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.LoadFiniteFloat8(source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source, nint index) => ScalarSimd.LoadFiniteFloat8(source + index);
}

/// <summary>
/// Blocks of 32 whole numbers with a scale, <see cref="Q8Block"/>. A scale has 11 significant bits and a code 8, so their product is exact in a float: loading is widening here too. An infinite or NaN scale comes out as
/// such numbers.
/// </summary>
internal readonly unsafe struct Q8BlockElement : IElement
{
    public static int Size => Q8Block.SizeInBytes;

    public static nint Bytes(nint count) => count / Q8Block.Length * Q8Block.SizeInBytes;

    public static bool TakesScales => false;

    public static float Largest => 65504 * 128;

    public static bool HasSpecials => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
    {
        byte* block = source + ((index / Q8Block.Length) * Q8Block.SizeInBytes);
        return TS.Multiply(TS.LoadInt8((sbyte*)block + sizeof(ushort) + (index % Q8Block.Length)), TS.Create(ScalarSimd.LoadHalf((ushort*)block)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source, nint index)
    {
        byte* block = source + ((index / Q8Block.Length) * Q8Block.SizeInBytes);
        return ((sbyte*)block)[sizeof(ushort) + (index % Q8Block.Length)] * ScalarSimd.LoadHalf((ushort*)block);
    }
}
