using System.Globalization;
using System.Text.RegularExpressions;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Planning;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Cases of the reference set within the limits that the set states, with the kernel that a call gets and with each one that can take the case.</summary>
[Slow]
public sealed partial class MetalReferenceTests
{
    public static TheoryData<string> All => [.. ReferenceData.Cases];

    public static TheoryData<string> Prefill => Of(AttentionKernel.Prefill);

    public static TheoryData<string> Decode => Of(AttentionKernel.Decode);

    /// <summary>In all orders of threads.</summary>
    [Theory]
    [MemberData(nameof(All))]
    public void Case_passes(string name) => AssertPasses(name, forced: null);

    [Theory]
    [MemberData(nameof(All))]
    public void Case_passes_in_the_plain_kernel(string name) => AssertPasses(name, AttentionKernel.Plain);

    /// <summary>Any number of rows, as RowInvariant has it.</summary>
    [Theory]
    [MemberData(nameof(Prefill))]
    public void Case_passes_in_the_prefill_kernel(string name) => AssertPasses(name, AttentionKernel.Prefill);

    /// <summary>Any number of rows: more than a plan would give to it.</summary>
    [Theory]
    [MemberData(nameof(Decode))]
    public void Case_passes_in_the_decode_kernel(string name) => AssertPasses(name, AttentionKernel.Decode);

    /// <summary>Whether a kernel takes these dimensions.</summary>
    internal static bool Takes(AttentionKernel family, int keyDim, int valueDim, AttentionElementType keyValueType) => family switch
    {
        AttentionKernel.Prefill => TileTable.Prefill(keyDim, valueDim, keyValueType, rowBlocks: 1, dimParts: 1) is not null,
        AttentionKernel.Decode => TileTable.Decode(keyDim, valueDim, keyValueType) is not null,
        _ => true,
    };

    internal static void AssertPasses(string name, AttentionKernel? forced, EmulatorFlavour flavour = EmulatorFlavour.Plain)
    {
        using EmulatedRuntime runtime = MetalProblems.Start(flavour, forced is null ? MetalProblems.AllOrders : []);
        CaseOutcome outcome = ReferenceCall.Run(
            ReferenceCase.Load(ReferenceData.PathOf(name)), new RunOptions { RowInvariant = forced == AttentionKernel.Prefill }, new MetalCaller(runtime, forced));
        Assert.True(outcome.Passed, $"{name}: {outcome.Failure}");
    }

    /// <summary>A case's name says its dimensions: "-d64", "-d16v40".</summary>
    private static TheoryData<string> Of(AttentionKernel family)
    {
        var cases = new TheoryData<string>();
        foreach (string name in ReferenceData.Cases)
        {
            Match dims = Dims().Match(name);
            int keyDim = int.Parse(dims.Groups["key"].ValueSpan, CultureInfo.InvariantCulture);
            int valueDim = dims.Groups["value"].Success ? int.Parse(dims.Groups["value"].ValueSpan, CultureInfo.InvariantCulture) : keyDim;
            AttentionElementType type = name.Contains("fp32", StringComparison.Ordinal) ? AttentionElementType.Float32 : AttentionElementType.Float16;
            if (Takes(family, keyDim, valueDim, type)) cases.Add(name);
        }

        return cases;
    }

    [GeneratedRegex(@"-d(?<key>\d+)(v(?<value>\d+))?(-|$)", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Dims();
}
