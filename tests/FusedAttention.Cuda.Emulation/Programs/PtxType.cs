namespace FusedAttention.Cuda.Emulation.Programs;

/// <summary>A type that an instruction names.</summary>
/// <param name="Name">Without its dot.</param>
internal readonly record struct PtxType(string Name)
{
    public bool IsFloat => Name[0] == 'f' || Name.StartsWith("bf", StringComparison.Ordinal) || Name.StartsWith("tf", StringComparison.Ordinal);

    public bool IsSigned => Name[0] == 's';

    public bool IsPredicate => Name is "pred";

    public bool IsPacked => Name is "f16x2" or "bf16x2";

    /// <summary>Bits of a value; 1 for a predicate.</summary>
    public int Bits => Name switch
    {
        "pred" => 1,
        "b8" or "u8" or "s8" => 8,
        "b16" or "u16" or "s16" or "f16" or "bf16" or "e4m3x2" => 16,
        "b32" or "u32" or "s32" or "f32" or "f16x2" or "bf16x2" => 32,
        "b64" or "u64" or "s64" or "f64" => 64,
        _ => 0,
    };

    public static bool IsType(string modifier) => new PtxType(modifier).Bits != 0;
}
