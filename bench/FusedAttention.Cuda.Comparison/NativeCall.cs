using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Comparison;

/// <summary>A tensor as the caller has it. All fields take 8 bytes, so that no compiler pads them differently: compare.py has the same list.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeTensor
{
    public const int MostDimensions = 4;

    /// <summary>On the device; 0: there is no such tensor.</summary>
    public nint Address;

    /// <summary>An <see cref="NativeElementType"/>.</summary>
    public long ElementType;

    public long Rank;

    public fixed long Lengths[MostDimensions];

    /// <summary>In elements.</summary>
    public fixed long Strides[MostDimensions];
}

/// <summary>A score or mask function: what <see cref="FunctionRegistry"/> makes of a name and numbers. All on the host.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeFunction
{
    /// <summary>UTF-8, ended by a 0; null: there is no such function.</summary>
    public byte* Name;

    public float* Numbers;

    public long Count;
}

internal enum NativeElementType : long
{
    Float16,
    BFloat16,
    Float32,
    Boolean,
    Int8,
    Float8E4M3,
}

internal enum NativeCallKind : long
{
    /// <summary><see cref="CudaAttention.Forward"/>.</summary>
    Dense,

    /// <summary><see cref="CudaAttention.ForwardVariableLength"/>.</summary>
    Packed,

    /// <summary>ForwardPaged with block tables of the host.</summary>
    Paged,
}

/// <summary>A call as the caller describes it. Addresses of the host are read while a function runs, and not kept.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeCall
{
    /// <summary>Of the structure, in bytes: two versions of it are not mistaken for each other.</summary>
    public long Size;

    public NativeCallKind Kind;

    public NativeTensor Query;
    public NativeTensor Key;
    public NativeTensor Value;
    public NativeTensor Output;
    public NativeTensor Mask;
    public NativeTensor Bias;
    public NativeTensor LogSumExp;
    public NativeTensor KeyScale;
    public NativeTensor ValueScale;

    /// <summary>Packed and paged: how many.</summary>
    public long Sequences;

    /// <summary>Packed and paged, on the host: <see cref="Sequences"/> + 1 numbers.</summary>
    public int* CumulativeQueryLengths;

    /// <summary>On the host. Packed: <see cref="Sequences"/> + 1 cumulative lengths. Paged: <see cref="Sequences"/> lengths.</summary>
    public int* KeyLengths;

    /// <summary>Paged, on the host: <see cref="Sequences"/> rows of <see cref="TableColumns"/>.</summary>
    public int* BlockTables;

    public long TableColumns;

    public long IsCausal;

    /// <summary>Keys before a query's own position; negative: all.</summary>
    public long WindowLeft;

    /// <summary>Keys after a query's own position; negative: all.</summary>
    public long WindowRight;

    /// <summary>0: 1/sqrt(dim).</summary>
    public double Scale;

    /// <summary>0: none.</summary>
    public double SoftCap;

    /// <summary>On the host, one a query head; null: none.</summary>
    public float* AlibiSlopes;

    /// <summary>On the host, one a query head; null: none.</summary>
    public float* SinkLogits;

    public NativeFunction ScoreFunction;
    public NativeFunction MaskFunction;

    /// <summary>A <see cref="NativeForm"/>.</summary>
    public NativeForm Form;

    /// <summary>The caller's stream.</summary>
    public nint Stream;
}

/// <summary>Which prefill kernel runs where more than one could.</summary>
internal enum NativeForm : long
{
    /// <summary>What a user of the library gets.</summary>
    Default,

    /// <summary>Products of warps.</summary>
    Mma,

    /// <summary>Products of warpgroups.</summary>
    Wgmma,
}
