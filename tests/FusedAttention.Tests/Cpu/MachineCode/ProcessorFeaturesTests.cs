using FusedAttention.Cpu.MachineCode;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>CPUID's bits and XCR0's, one by one: what is missing anywhere is not used.</summary>
public sealed class ProcessorFeaturesTests
{
    private const ulong AllState = 0b110 | (0b111 << 5) | (0b11 << 17);

    [Fact]
    public void A_server_with_everything_has_everything()
    {
        var all = new Machine();
        ProcessorFeatures features = all.Features(AllState);
        Assert.True(features is { HasF16C: true, HasAvx512Vnni: true, HasAvxVnni: true, HasAvx512BFloat16: true, HasTilesOfBFloat16: true });
        Assert.Equal("F16C, AVX512-VNNI, AVX-VNNI, AVX512-BF16, AMX-BF16", features.ToString());
    }

    [Theory]
    [InlineData(AllState & ~(1UL << 1), "none")]
    [InlineData(AllState & ~(1UL << 2), "none")]
    [InlineData(AllState & ~(1UL << 5), "F16C, AVX-VNNI")]
    [InlineData(AllState & ~(1UL << 6), "F16C, AVX-VNNI")]
    [InlineData(AllState & ~(1UL << 7), "F16C, AVX-VNNI")]
    [InlineData(AllState & ~(1UL << 17), "F16C, AVX512-VNNI, AVX-VNNI, AVX512-BF16")]
    [InlineData(AllState & ~(1UL << 18), "F16C, AVX512-VNNI, AVX-VNNI, AVX512-BF16")]
    [InlineData(0, "none")]
    public void Registers_that_the_system_does_not_keep_are_not_used(ulong enabled, string expected) => AssertHas(expected, new Machine().Features(enabled));

    [Theory]
    [InlineData(1, 'c', 27, "none")]
    [InlineData(1, 'c', 29, "AVX512-VNNI, AVX-VNNI, AVX512-BF16, AMX-BF16")]
    [InlineData(7, 'c', 11, "F16C, AVX-VNNI, AVX512-BF16, AMX-BF16")]
    [InlineData(7, 'd', 22, "F16C, AVX512-VNNI, AVX-VNNI, AVX512-BF16")]
    [InlineData(7, 'd', 24, "F16C, AVX512-VNNI, AVX-VNNI, AVX512-BF16")]
    [InlineData(0x71, 'a', 5, "F16C, AVX512-VNNI, AVX-VNNI, AMX-BF16")]
    [InlineData(0x71, 'a', 4, "F16C, AVX512-VNNI, AVX512-BF16, AMX-BF16")]
    public void A_bit_that_is_missing_takes_what_it_stands_for(int leaf, char register, int bit, string expected) =>
        AssertHas(expected, new Machine { Missing = (leaf, register, bit) }.Features(AllState));

    [Theory]
    [InlineData(4, 64, 16)]
    [InlineData(8, 32, 16)]
    [InlineData(8, 64, 8)]
    public void Smaller_tiles_are_none(int tiles, int bytes, int rows) =>
        AssertHas("F16C, AVX512-VNNI, AVX-VNNI, AVX512-BF16", new Machine { Tiles = (tiles, bytes, rows) }.Features(AllState));

    [Theory]
    [InlineData(0, 1, "none")]
    [InlineData(1, 1, "F16C")]
    [InlineData(6, 1, "F16C")]
    [InlineData(7, 0, "F16C, AVX512-VNNI")]
    [InlineData(0x1C, 1, "F16C, AVX512-VNNI, AVX-VNNI, AVX512-BF16")]
    public void Leaves_that_a_processor_has_not_are_not_asked(int leaves, int partsOf7, string expected) =>
        AssertHas(expected, new Machine { Leaves = leaves, PartsOf7 = partsOf7 }.Features(AllState));

    private static void AssertHas(string expected, ProcessorFeatures features)
    {
        string text = features.ToString();
        Assert.Equal(expected, text.StartsWith("none", StringComparison.Ordinal) ? "none" : text);
    }

    private sealed class Machine
    {
        public (int Leaf, char Register, int Bit) Missing { get; init; }

        public (int Count, int Bytes, int Rows) Tiles { get; init; } = (8, 64, 16);

        public int Leaves { get; init; } = 0x20;

        public int PartsOf7 { get; init; } = 1;

        public ProcessorFeatures Features(ulong enabled) => ProcessorFeatures.From(Answer, enabled);

        private (int Eax, int Ebx, int Ecx, int Edx) Answer(int leaf, int part)
        {
            Assert.True(leaf <= Leaves && (leaf != 7 || part <= PartsOf7), $"Leaf {leaf:x}, part {part}: this machine has none.");
            return (leaf, part) switch
            {
                (0, 0) => (Leaves, 0, 0, 0),
                (1, 0) => (0, 0, Bits(1, 'c', 27, 29), 0),
                (7, 0) => (PartsOf7, 0, Bits(7, 'c', 11), Bits(7, 'd', 22, 24)),
                (7, 1) => (Bits(0x71, 'a', 4, 5), 0, 0, 0),
                (0x1D, 1) => (0, (Tiles.Count << 16) | Tiles.Bytes, Tiles.Rows, 0),
                _ => throw new InvalidOperationException($"Leaf {leaf:x}, part {part}."),
            };
        }

        private int Bits(int leaf, char register, params ReadOnlySpan<int> bits)
        {
            int value = 0;
            foreach (int bit in bits)
            {
                if (Missing != (leaf, register, bit)) value |= 1 << bit;
            }

            return value;
        }
    }
}
