using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>What is done to each lane of 32 bits.</summary>
internal interface IUnary
{
    static abstract Vector512<uint> Of(Vector512<uint> a);
}

/// <inheritdoc cref="IUnary"/>
internal interface IBinary
{
    static abstract Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b);
}

/// <inheritdoc cref="IUnary"/>
internal interface ITernary
{
    static abstract Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c);
}

/// <summary>What is done to each lane of 64 bits.</summary>
internal interface IWideUnary
{
    static abstract Vector512<ulong> Of(Vector512<ulong> a);
}

/// <inheritdoc cref="IWideUnary"/>
internal interface IWideBinary
{
    static abstract Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b);
}

/// <inheritdoc cref="IWideUnary"/>
internal interface IWideTernary
{
    static abstract Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b, Vector512<ulong> c);
}

/// <summary>What makes 64 bits of each lane of 32.</summary>
internal interface IWidening
{
    static abstract Vector512<ulong> Of(Vector256<uint> a, Vector256<uint> b);
}

/// <summary>What a lane of some type does on its own: for what has no vector form, or is too rare to need one.</summary>
internal interface IScalar<TResult, TA, TB>
    where TResult : unmanaged
    where TA : unmanaged
    where TB : unmanaged
{
    static abstract TResult Of(TA a, TB b);
}

/// <summary>Instructions that do the same to each lane: the operation is a type, the loop is here.</summary>
internal static unsafe class LaneOperations
{
    public static Handler Unary<T>()
        where T : struct, IUnary => new(&RunUnary<T>);

    public static Handler Binary<T>()
        where T : struct, IBinary => new(&RunBinary<T>);

    public static Handler Ternary<T>()
        where T : struct, ITernary => new(&RunTernary<T>);

    public static Handler WideUnary<T>()
        where T : struct, IWideUnary => new(&RunWideUnary<T>);

    public static Handler WideBinary<T>()
        where T : struct, IWideBinary => new(&RunWideBinary<T>);

    public static Handler WideTernary<T>()
        where T : struct, IWideTernary => new(&RunWideTernary<T>);

    public static Handler Compare<T>()
        where T : struct, IBinary => new(&RunCompare<T>);

    public static Handler WideCompare<T>()
        where T : struct, IWideBinary => new(&RunWideCompare<T>);

    public static Handler Widening<T>()
        where T : struct, IWidening => new(&RunWidening<T>);

    public static Handler Scalar<T, TResult, TA, TB>()
        where T : struct, IScalar<TResult, TA, TB>
        where TResult : unmanaged
        where TA : unmanaged
        where TB : unmanaged
        => new(&RunScalar<T, TResult, TA, TB>);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunUnary<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IUnary
    {
        byte* rows = warp.Rows, a = rows + i->A;
        Lanes.Store(rows + i->D, mask, T.Of(Lanes.Half(a, 0)), T.Of(Lanes.Half(a, 1)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunBinary<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IBinary
    {
        byte* rows = warp.Rows, a = rows + i->A, b = rows + i->B;
        Lanes.Store(rows + i->D, mask, T.Of(Lanes.Half(a, 0), Lanes.Half(b, 0)), T.Of(Lanes.Half(a, 1), Lanes.Half(b, 1)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunTernary<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, ITernary
    {
        byte* rows = warp.Rows, a = rows + i->A, b = rows + i->B, c = rows + i->C;
        Lanes.Store(rows + i->D, mask, T.Of(Lanes.Half(a, 0), Lanes.Half(b, 0), Lanes.Half(c, 0)), T.Of(Lanes.Half(a, 1), Lanes.Half(b, 1), Lanes.Half(c, 1)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunWideUnary<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IWideUnary
    {
        byte* rows = warp.Rows;
        for (int q = 0; q < 4; q++) Lanes.Store(rows + i->D, mask, q, T.Of(Lanes.Quarter(rows + i->A, q)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunWideBinary<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IWideBinary
    {
        byte* rows = warp.Rows;
        for (int q = 0; q < 4; q++) Lanes.Store(rows + i->D, mask, q, T.Of(Lanes.Quarter(rows + i->A, q), Lanes.Quarter(rows + i->B, q)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunWideTernary<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IWideTernary
    {
        byte* rows = warp.Rows;
        for (int q = 0; q < 4; q++) Lanes.Store(rows + i->D, mask, q, T.Of(Lanes.Quarter(rows + i->A, q), Lanes.Quarter(rows + i->B, q), Lanes.Quarter(rows + i->C, q)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunCompare<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IBinary
    {
        byte* a = warp.Rows + i->A, b = warp.Rows + i->B;
        PredicateOperations.Set(warp, i, mask, Lanes.BitsOf(T.Of(Lanes.Half(a, 0), Lanes.Half(b, 0)), T.Of(Lanes.Half(a, 1), Lanes.Half(b, 1))));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunWideCompare<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IWideBinary
    {
        byte* a = warp.Rows + i->A, b = warp.Rows + i->B;
        uint bits = 0;
        for (int q = 0; q < 4; q++) bits |= Lanes.BitsOf(T.Of(Lanes.Quarter(a, q), Lanes.Quarter(b, q)), q);
        PredicateOperations.Set(warp, i, mask, bits);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunWidening<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IWidening
    {
        byte* a = warp.Rows + i->A, b = warp.Rows + i->B, d = warp.Rows + i->D;
        Vector512<uint> a0 = Lanes.Half(a, 0), a1 = Lanes.Half(a, 1), b0 = Lanes.Half(b, 0), b1 = Lanes.Half(b, 1);
        Lanes.Store(d, mask, 0, T.Of(a0.GetLower(), b0.GetLower()));
        Lanes.Store(d, mask, 1, T.Of(a0.GetUpper(), b0.GetUpper()));
        Lanes.Store(d, mask, 2, T.Of(a1.GetLower(), b1.GetLower()));
        Lanes.Store(d, mask, 3, T.Of(a1.GetUpper(), b1.GetUpper()));
    }

    /// <summary>Lanes one by one. Values of fewer than 32 bits lie in the low bits of a lane, and results of theirs are widened with zeros.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunScalar<T, TResult, TA, TB>(Warp warp, Instruction* i, uint mask)
        where T : struct, IScalar<TResult, TA, TB>
        where TResult : unmanaged
        where TA : unmanaged
        where TB : unmanaged
    {
        byte* a = warp.Rows + i->A, b = warp.Rows + i->B, d = warp.Rows + i->D;
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            TResult result = T.Of(*(TA*)(a + (lane * (sizeof(TA) == 8 ? 8 : 4))), *(TB*)(b + (lane * (sizeof(TB) == 8 ? 8 : 4))));
            byte* to = d + (lane * (sizeof(TResult) == 8 ? 8 : 4));
            if (sizeof(TResult) < 4) *(uint*)to = 0;
            *(TResult*)to = result;
        }
    }
}
