using System.Runtime.CompilerServices;

namespace FusedAttention.Cpu.Numerics;

/// <summary>An element type of keys and values, as kernels load it: widened to 32-bit floats on the way into a register.</summary>
internal unsafe interface IElement
{
    /// <summary>Bytes of an element, or of a block of them: strides count these.</summary>
    static abstract int Size { get; }

    /// <summary>Bytes of so many elements of a row: whole blocks where there are blocks.</summary>
    static abstract nint Bytes(nint count);

    /// <summary>Whether scales may lie beside the elements.</summary>
    static abstract bool TakesScales { get; }

    /// <summary>The largest finite magnitude.</summary>
    static abstract float Largest { get; }

    /// <summary>Whether one may be infinite or NaN, and so show where its weight is 0.</summary>
    static abstract bool HasSpecials { get; }

    /// <summary>A vector of elements from <paramref name="index"/> on, a multiple of the vector's width where elements are in blocks.</summary>
    static abstract TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged;

    static abstract float LoadOne(byte* source, nint index);
}

/// <summary>An element type that rows are written as, rounded to nearest even.</summary>
internal unsafe interface IWritableElement : IElement
{
    /// <summary>Stores a vector from <paramref name="index"/> on.</summary>
    static abstract void Store<TS, TV>(byte* destination, nint index, TV value)
        where TS : struct, ISimd<TV>
        where TV : unmanaged;

    static abstract void StoreOne(byte* destination, nint index, float value);
}

/// <summary>32-bit floats.</summary>
internal readonly unsafe struct Float32Element : IWritableElement
{
    public static int Size => sizeof(float);

    public static nint Bytes(nint count) => count * sizeof(float);

    public static bool TakesScales => false;

    public static float Largest => float.MaxValue;

    public static bool HasSpecials => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.Load((float*)source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source, nint index) => ((float*)source)[index];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TS, TV>(byte* destination, nint index, TV value)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.Store((float*)destination + index, value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreOne(byte* destination, nint index, float value) => ((float*)destination)[index] = value;
}

/// <summary>IEEE binary16.</summary>
internal readonly unsafe struct Float16Element : IWritableElement
{
    public static int Size => sizeof(ushort);

    public static nint Bytes(nint count) => count * sizeof(ushort);

    public static bool TakesScales => false;

    public static float Largest => 65504;

    public static bool HasSpecials => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.LoadHalf((ushort*)source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source, nint index) => ScalarSimd.LoadHalf((ushort*)source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TS, TV>(byte* destination, nint index, TV value)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.StoreHalf((ushort*)destination + index, value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreOne(byte* destination, nint index, float value) => ScalarSimd.StoreHalf((ushort*)destination + index, value);
}

/// <summary>
/// IEEE binary16 in its cheap form: values times 2^-112, with the missing factor left to the other operand of a product. Valid only where no element is infinite or NaN.
/// </summary>
internal readonly unsafe struct UnrebasedFloat16Element : IElement
{
    public static int Size => sizeof(ushort);

    public static nint Bytes(nint count) => count * sizeof(ushort);

    public static bool TakesScales => false;

    public static float Largest => 65504;

    public static bool HasSpecials => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.LoadHalfUnrebased((ushort*)source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source, nint index) => ScalarSimd.LoadHalfUnrebased((ushort*)source + index);
}

/// <summary>bfloat16.</summary>
internal readonly unsafe struct BFloat16Element : IWritableElement
{
    public static int Size => sizeof(ushort);

    public static nint Bytes(nint count) => count * sizeof(ushort);

    public static bool TakesScales => false;

    public static float Largest => 3.3895314e38f;

    public static bool HasSpecials => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TS, TV>(byte* source, nint index)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.LoadBFloat16((ushort*)source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source, nint index) => ScalarSimd.LoadBFloat16((ushort*)source + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TS, TV>(byte* destination, nint index, TV value)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        => TS.StoreBFloat16((ushort*)destination + index, value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreOne(byte* destination, nint index, float value) => ScalarSimd.StoreBFloat16((ushort*)destination + index, value);
}
