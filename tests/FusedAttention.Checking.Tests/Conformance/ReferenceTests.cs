using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>Every case of the reference set within the limits that the set states: the whole set where it lies beside the repository, else the committed part.</summary>
public sealed class ReferenceTests
{
    public static TheoryData<string> Cases => [.. ReferenceData.Cases];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Case_passes_with_the_variant_of_this_machine(string name) => AssertPasses(name, RunOptions.Default);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Case_passes_row_invariant(string name) => AssertPasses(name, new RunOptions { RowInvariant = true });

    [Fact]
    public void The_committed_part_covers_every_group_type_and_layout()
    {
        ReferenceCase[] cases = [.. ReferenceData.Names(ReferenceData.Subset).Select(name => ReferenceCase.Load(Path.Combine(ReferenceData.Subset, name + ".safetensors")))];
        string[] groups = ["basic", "gqa", "window", "bias", "mask", "alibi", "softcap", "sink", "combo", "large", "empty", "kvlen", "dv", "decode", "varlen", "paged"];
        Assert.Equal(groups.Order(StringComparer.Ordinal), cases.Select(c => c.Group).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal));
        foreach (string group in groups) Assert.Equal(3, cases.Where(c => string.Equals(c.Group, group, StringComparison.Ordinal)).Select(c => c.ElementType).Distinct().Count());
        Assert.Equal(3, cases.Select(c => c.Layout).Distinct().Count());
        long bytes = Directory.EnumerateFiles(ReferenceData.Subset).Sum(file => new FileInfo(file).Length);
        Assert.True(bytes <= 6_000_000, $"The committed part has {bytes} bytes.");
    }

    internal static void AssertPasses(string name, RunOptions run)
    {
        CaseOutcome outcome = ReferenceRunner.Run(ReferenceCase.Load(ReferenceData.PathOf(name)), run, CpuBackend.Instance);
        Assert.True(outcome.Passed, $"{name}: {outcome.Failure}");
    }
}

/// <summary>Every case of the reference set on every variant that this machine can run, forced by name.</summary>
[Slow]
public sealed class ReferenceVariantTests
{
    public static TheoryData<CpuInstructionSet, string> Cases()
    {
        var cases = new TheoryData<CpuInstructionSet, string>();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            foreach (string name in ReferenceData.Cases) cases.Add(variant, name);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Case_passes(CpuInstructionSet variant, string name) => ReferenceTests.AssertPasses(name, new RunOptions { Execution = new() { InstructionSet = variant } });

    [Theory]
    [MemberData(nameof(Cases))]
    public void Case_passes_row_invariant(CpuInstructionSet variant, string name)
        => ReferenceTests.AssertPasses(name, new RunOptions { Execution = new() { InstructionSet = variant }, RowInvariant = true });
}
