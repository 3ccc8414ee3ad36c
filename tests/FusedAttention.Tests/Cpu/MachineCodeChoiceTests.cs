using FusedAttention.Cpu;
using FusedAttention.Cpu.MachineCode;
using Xunit;

namespace FusedAttention.Tests.Cpu;

/// <summary>Who gets machine code: by instruction set, option, environment and what the host allows; and what is said of it.</summary>
public sealed class MachineCodeChoiceTests
{
    private static readonly Lazy<CodeHost> None = new(static () => new([], static _ => null));

    private static bool RunsHere => Variants.IsSupported(CpuInstructionSet.Avx2) && CodeHost.Current is { IsAvailable: true, Features.HasF16C: true };

    [Fact]
    public void Avx2_and_avx512_have_it_by_default()
    {
        Assert.SkipUnless(RunsHere, "No machine code here.");
        foreach (CpuInstructionSet set in Variants.Supported.Where(static set => set >= CpuInstructionSet.Avx2))
        {
            Assert.NotNull(MachineCodeChoice.Of(set, CpuMachineCode.Auto, null, static () => CodeHost.Current).Narrow);
            Assert.NotNull(MachineCodeChoice.Of(set, CpuMachineCode.Required, "Off", static () => CodeHost.Current).Narrow);
            Assert.NotNull(MachineCodeChoice.Of(set, CpuMachineCode.Auto, "required", static () => CodeHost.Current).Narrow);
        }
    }

    [Fact]
    public void The_others_have_none_whatever_is_asked()
    {
        foreach (CpuMachineCode asked in Enum.GetValues<CpuMachineCode>())
        {
            Assert.Null(MachineCodeChoice.Of(CpuInstructionSet.Scalar, asked, "Required", static () => None.Value).Narrow);
            Assert.Null(MachineCodeChoice.Of(CpuInstructionSet.Vector128, asked, null, static () => None.Value).Narrow);
        }
    }

    [Fact]
    public void Off_is_off_and_asks_no_host()
    {
        static CodeHost NotAsked() => throw new InvalidOperationException("Nobody is to ask.");
        Assert.Equal(new MachineCodeChoice(null, "off by CpuExecution.MachineCode"), MachineCodeChoice.Of(CpuInstructionSet.Avx2, CpuMachineCode.Off, "Required", NotAsked));
        Assert.Equal(new MachineCodeChoice(null, "off by FUSEDATTENTION_MACHINE_CODE"), MachineCodeChoice.Of(CpuInstructionSet.Avx2, CpuMachineCode.Auto, "off", NotAsked));
    }

    [Fact]
    public void A_refusal_is_a_reason_or_an_exception_where_it_is_required()
    {
        MachineCodeChoice choice = MachineCodeChoice.Of(CpuInstructionSet.Avx512, CpuMachineCode.Auto, null, static () => None.Value);
        Assert.Equal(new MachineCodeChoice(null, None.Value.State), choice);
        var byCall = Assert.Throws<PlatformNotSupportedException>(() => MachineCodeChoice.Of(CpuInstructionSet.Avx512, CpuMachineCode.Required, null, static () => None.Value));
        Assert.Equal($"CpuExecution.MachineCode requires machine code for Avx512, which cannot run here: {None.Value.State}.", byCall.Message);
        var byVariable = Assert.Throws<PlatformNotSupportedException>(() => MachineCodeChoice.Of(CpuInstructionSet.Avx2, CpuMachineCode.Auto, "Required", static () => None.Value));
        Assert.StartsWith("FUSEDATTENTION_MACHINE_CODE requires machine code for Avx2", byVariable.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("on")]
    [InlineData("7")]
    public void Names_that_mean_nothing_are_refused(string named)
    {
        var refused = Assert.Throws<PlatformNotSupportedException>(() => MachineCodeChoice.Of(CpuInstructionSet.Avx2, CpuMachineCode.Auto, named, static () => None.Value));
        Assert.Equal($"FUSEDATTENTION_MACHINE_CODE is '{named}'; expected one of Auto, Off, Required.", refused.Message);
    }

    [Fact]
    public void Explanations_say_what_runs()
    {
        foreach (CpuInstructionSet set in Variants.Supported)
        {
            var execution = new CpuExecution { InstructionSet = set };
            bool has = RunsHere && set >= CpuInstructionSet.Avx2;
            string? said = has ? $"binary16 by vcvtph2ps ({CodeHost.Current.State})" : set >= CpuInstructionSet.Avx2 ? "none: " : null;
            AssertSays(said, Attention.Explain<float, Half>(new(1, 1, 64, 4, 1, 64), execution: execution with { MachineCode = CpuMachineCode.Auto }));
            AssertSays(said, Attention.Explain<Half, Half>(new(1, 100, 100, 4, 4, 64), execution: execution));
            AssertSays(null, Attention.Explain<float, float>(new(1, 1, 64, 4, 1, 64), execution: execution));
            AssertSays(null, Attention.Explain<float, BFloat16>(new(1, 1, 64, 4, 1, 64), execution: execution));
            AssertSays(null, Attention.Explain<float, Half>(new(0, 1, 64, 4, 1, 64), execution: execution));
            AssertSays(null, Attention.Explain<BFloat16, BFloat16>(new(1, 1, 64, 4, 1, 64), execution: execution));
            string? tiles = set < CpuInstructionSet.Avx2 ? null : !has ? "none: " : set == CpuInstructionSet.Avx2 ? "none: tiles come with AVX-512"
                : CodeHost.Current.TilesRefusal is { } refusal ? $"none: {refusal}" : "bfloat16 by tiles of AMX";
            AssertSays(tiles, Attention.Explain<BFloat16, BFloat16>(new(1, 100, 64, 4, 1, 64), execution: execution));
            AssertSays(null, Attention.Explain<float, BFloat16>(new(1, 100, 64, 4, 1, 64), execution: execution));
            if (set < CpuInstructionSet.Avx2) continue;
            AssertSays("none: off by CpuExecution.MachineCode", Attention.Explain<float, Half>(new(1, 1, 64, 4, 1, 64), execution: execution with { MachineCode = CpuMachineCode.Off }));
            if (!has) continue;
            AssertSays("none: heads of one row are bound by memory", Attention.Explain<float, Half>(new(1, 1, 64, 4, 4, 64), execution: execution));
            AssertSays("none: the dimensions are not whole vectors", Attention.Explain<float, Half>(new(1, 1, 64, 4, 1, 65), execution: execution));
            AssertSays("none: the dimensions are not whole vectors", Attention.Explain<float, Half>(new(1, 100, 64, 4, 1, 65), execution: execution));
        }
    }

    [Fact]
    public void A_number_that_is_no_choice_is_refused_before_anything_is_written()
    {
        float[] output = [7];
        var refused = Assert.Throws<ArgumentException>("machineCode", () => Attention.Forward<float, float>([1], [1], [1], output, new(1, 1, 1, 1, 1, 1), execution: new() { MachineCode = (CpuMachineCode)3 }));
        Assert.Contains("MachineCode is 3", refused.Message, StringComparison.Ordinal);
        Assert.Equal(7, output[0]);
        Assert.Throws<ArgumentException>("machineCode", () => KernelSelector.Select(CpuInstructionSet.Auto, (CpuMachineCode)(-1)));
    }

    [Fact]
    public void Explanations_have_the_code_itself()
    {
        Assert.SkipUnless(RunsHere, "No machine code here.");
        var execution = new CpuExecution { InstructionSet = CpuInstructionSet.Avx2, MachineCode = CpuMachineCode.Required };
        string decode = Attention.Explain<float, Half>(new(1, 1, 64, 4, 1, 64), execution: execution).MachineCodeListing!;
        Assert.StartsWith("fp16 scores 256 bits, dim 64, 2 lines ahead:\n", decode, StringComparison.Ordinal);
        Assert.Contains("\nfp16 sums 256 bits, dim 64, 2 lines ahead:\n", decode, StringComparison.Ordinal);
        string prefill = Attention.Explain<float, Half>(new(1, 99, 64, 4, 1, 64, 65), execution: execution).MachineCodeListing!;
        Assert.StartsWith("fp16 widening 256 bits, dim 64, 64 floats a row, 16 a panel:\n", prefill, StringComparison.Ordinal);
        Assert.DoesNotContain("dim 65", prefill, StringComparison.Ordinal);
        Assert.Null(Attention.Explain<float, Half>(new(1, 1, 64, 4, 4, 64), execution: execution).MachineCodeListing);
    }

    private static void AssertSays(string? expected, AttentionExplanation explanation)
    {
        if (expected is null)
        {
            Assert.Null(explanation.MachineCode);
            Assert.DoesNotContain("machine code", explanation.ToString(), StringComparison.Ordinal);
            return;
        }

        Assert.StartsWith(expected, explanation.MachineCode, StringComparison.Ordinal);
        Assert.Contains($"\nmachine code     {explanation.MachineCode}\n", explanation.ToString(), StringComparison.Ordinal);
    }
}
