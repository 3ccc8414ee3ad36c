namespace FusedAttention.Checking.Formats;

/// <summary>The element types that files may hold and the readers here know.</summary>
public enum TensorElementType
{
    Float32,
    Float16,
    BFloat16,
    Float64,
    Int32,
    Int64,
    Boolean,
    UInt8,
    Int8,

    /// <summary><see cref="FusedAttention.Float8E4M3"/>.</summary>
    Float8E4M3,

    /// <summary><see cref="FusedAttention.Q8Block"/>: an element is a block of 32 numbers. No file format has it; files hold its bytes as <see cref="UInt8"/>.</summary>
    Q8Block,
}

/// <summary>Sizes of element types and their names in each file format.</summary>
public static class TensorElementTypes
{
    public static int SizeInBytes(this TensorElementType type) => type switch
    {
        TensorElementType.Float64 or TensorElementType.Int64 => 8,
        TensorElementType.Float32 or TensorElementType.Int32 => 4,
        TensorElementType.Float16 or TensorElementType.BFloat16 => 2,
        TensorElementType.Q8Block => FusedAttention.Q8Block.SizeInBytes,
        _ => 1,
    };

    /// <summary>As tables and the options of the tool have it.</summary>
    public static string ShortName(this TensorElementType type) => type switch
    {
        TensorElementType.Float32 => "fp32",
        TensorElementType.Float16 => "fp16",
        TensorElementType.BFloat16 => "bf16",
        TensorElementType.Int8 => "int8",
        TensorElementType.Float8E4M3 => "fp8",
        TensorElementType.Q8Block => "q8_0",
        _ => type.ToString(),
    };

    public static string SafeTensorsName(this TensorElementType type) => type switch
    {
        TensorElementType.Float32 => "F32",
        TensorElementType.Float16 => "F16",
        TensorElementType.BFloat16 => "BF16",
        TensorElementType.Float64 => "F64",
        TensorElementType.Int32 => "I32",
        TensorElementType.Int64 => "I64",
        TensorElementType.Boolean => "BOOL",
        TensorElementType.Int8 => "I8",
        TensorElementType.Float8E4M3 => "F8_E4M3",
        TensorElementType.Q8Block => "Q8_0",
        _ => "U8",
    };

    public static TensorElementType? FromSafeTensorsName(string name) => name switch
    {
        "F32" => TensorElementType.Float32,
        "F16" => TensorElementType.Float16,
        "BF16" => TensorElementType.BFloat16,
        "F64" => TensorElementType.Float64,
        "I32" => TensorElementType.Int32,
        "I64" => TensorElementType.Int64,
        "BOOL" => TensorElementType.Boolean,
        "U8" => TensorElementType.UInt8,
        "I8" => TensorElementType.Int8,
        "F8_E4M3" => TensorElementType.Float8E4M3,
        _ => null,
    };

    /// <summary>The type string of a .npy header; null for bfloat16 and 8-bit floats, which that format does not have.</summary>
    public static string? NpyDescription(this TensorElementType type) => type switch
    {
        TensorElementType.Float32 => "<f4",
        TensorElementType.Float16 => "<f2",
        TensorElementType.Float64 => "<f8",
        TensorElementType.Int32 => "<i4",
        TensorElementType.Int64 => "<i8",
        TensorElementType.Boolean => "|b1",
        TensorElementType.UInt8 => "|u1",
        TensorElementType.Int8 => "|i1",
        _ => null,
    };

    public static TensorElementType? FromNpyDescription(string description) => description switch
    {
        "<f4" => TensorElementType.Float32,
        "<f2" => TensorElementType.Float16,
        "<f8" => TensorElementType.Float64,
        "<i4" => TensorElementType.Int32,
        "<i8" => TensorElementType.Int64,
        "|b1" => TensorElementType.Boolean,
        "|u1" => TensorElementType.UInt8,
        "|i1" => TensorElementType.Int8,
        _ => null,
    };

    /// <summary>How many numbers an element holds.</summary>
    public static int Numbers(this TensorElementType type) => type == TensorElementType.Q8Block ? FusedAttention.Q8Block.Length : 1;

    /// <summary>Whether it is one of the types that only keys and values have.</summary>
    public static bool IsEightBit(this TensorElementType type) => type is TensorElementType.Int8 or TensorElementType.Float8E4M3 or TensorElementType.Q8Block;

    public static bool IsFloatingPoint(this TensorElementType type)
        => type is TensorElementType.Float32 or TensorElementType.Float16 or TensorElementType.BFloat16 or TensorElementType.Float64;
}
