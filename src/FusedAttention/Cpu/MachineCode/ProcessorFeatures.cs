using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Cpu.MachineCode;

/// <summary>What of the processor .NET 10 does not tell, and machine code uses: CPUID's word, and that of the operating system, which keeps the registers.</summary>
internal readonly struct ProcessorFeatures
{
    // Bits of XCR0: AVX's halves, the three parts of AVX-512, the two of tiles.
    private const ulong AvxState = 0b110;
    private const ulong Avx512State = AvxState | (0b111 << 5);
    private const ulong TileState = 0b11 << 17;

    /// <summary>binary16 to floats and back.</summary>
    public bool HasF16C { get; private init; }

    /// <summary>Products of 8-bit and of 16-bit integers in AVX-512.</summary>
    public bool HasAvx512Vnni { get; private init; }

    /// <summary>The same in vectors of 256 bits, on processors that have no AVX-512.</summary>
    public bool HasAvxVnni { get; private init; }

    /// <summary>Conversion to bfloat16 in AVX-512.</summary>
    public bool HasAvx512BFloat16 { get; private init; }

    /// <summary>Products of tiles of bfloat16; the process has to ask for tiles besides.</summary>
    public bool HasTilesOfBFloat16 { get; private init; }

    /// <summary>CPUID's answers and XCR0 in terms of what kernels want.</summary>
    /// <param name="cpuid">Asks for a leaf and a part of it.</param>
    /// <param name="enabled">XCR0; what it leaves out would fault.</param>
    public static ProcessorFeatures From(Func<int, int, (int Eax, int Ebx, int Ecx, int Edx)> cpuid, ulong enabled)
    {
        int leaves = cpuid(0, 0).Eax;
        int basic = leaves >= 1 ? cpuid(1, 0).Ecx : 0;
        if (!Has(basic, 27)) return default;      // OSXSAVE: without it XCR0 does not exist
        (int partsOf7, _, int ecx7, int edx7) = leaves >= 7 ? cpuid(7, 0) : default;
        int eax7Part1 = partsOf7 >= 1 ? cpuid(7, 1).Eax : 0;

        // Tiles as kernels configure them: 8 of 16 rows of 64 bytes.
        (_, int ebxTiles, int ecxTiles, _) = leaves >= 0x1D && Has(edx7, 24) ? cpuid(0x1D, 1) : default;
        bool tilesAreWhole = (ebxTiles >> 16) >= 8 && (ebxTiles & 0xFFFF) >= 64 && (ecxTiles & 0xFFFF) >= 16;
        bool avx512 = (enabled & Avx512State) == Avx512State;
        return new()
        {
            HasF16C = Has(basic, 29) && (enabled & AvxState) == AvxState,
            HasAvx512Vnni = Has(ecx7, 11) && avx512,
            HasAvxVnni = Has(eax7Part1, 4) && (enabled & AvxState) == AvxState,
            HasAvx512BFloat16 = Has(eax7Part1, 5) && avx512,
            HasTilesOfBFloat16 = Has(edx7, 22) && tilesAreWhole && avx512 && (enabled & TileState) == TileState,
        };
    }

    /// <summary>Of this machine.</summary>
    /// <param name="enabled">XCR0.</param>
    public static ProcessorFeatures OfThisMachine(ulong enabled) => From(static (leaf, part) => X86Base.CpuId(leaf, part), enabled);

    /// <summary>Their names, as processors are sold with.</summary>
    public override string ToString()
    {
        string[] names = [HasF16C ? "F16C" : "", HasAvx512Vnni ? "AVX512-VNNI" : "", HasAvxVnni ? "AVX-VNNI" : "", HasAvx512BFloat16 ? "AVX512-BF16" : "", HasTilesOfBFloat16 ? "AMX-BF16" : ""];
        return string.Join(", ", names.Where(static name => name.Length > 0)) is { Length: > 0 } all ? all : "none of F16C, AVX512-VNNI, AVX-VNNI, AVX512-BF16, AMX-BF16";
    }

    private static bool Has(int register, int bit) => ((register >> bit) & 1) != 0;
}
