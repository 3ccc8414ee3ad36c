using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>Every case of the set with keys and values of 8 bits, on every variant of this machine: the whole set where it lies beside the repository, else the committed part.</summary>
public sealed class EightBitReferenceTests
{
    private static readonly string Subset = Path.Combine(ReferenceData.Root, "tests", "data", "reference-kv8");
    private static readonly string Folder = ReferenceData.Beside("reference-kv8") ?? Subset;

    public static TheoryData<CpuInstructionSet, bool> Variants => new(
        from variant in Testing.Variants.Supported
        from rowInvariant in (bool[])[false, true]
        select (variant, rowInvariant));

    [Theory]
    [MemberData(nameof(Variants))]
    public void Every_case_passes(CpuInstructionSet variant, bool rowInvariant)
    {
        FolderOutcome outcome = ReferenceFolder.Run(Folder, ReferenceFolder.Files(Folder), new RunOptions { Execution = new() { InstructionSet = variant }, RowInvariant = rowInvariant }, CpuBackend.Instance, static () => { });

        Assert.Empty(outcome.Skipped);
        Assert.Empty(outcome.Outcomes.Where(static o => !o.Passed).Select(static o => $"{o.Case}: {o.Failure}"));
        Assert.True(outcome.Passed >= 60, $"Only {outcome.Passed} cases ran.");
    }

    [Fact]
    public void The_committed_part_covers_every_group_and_type()
    {
        string[] files = ReferenceFolder.Files(Subset);
        QuantizeCase[] quantize = [.. files.Select(QuantizeCase.TryLoad).OfType<QuantizeCase>()];
        ReferenceCase[] calls = [.. files.Where(static f => !Path.GetFileName(f).StartsWith("quantize", StringComparison.Ordinal)).Select(ReferenceCase.Load)];
        Assert.Equal(11, quantize.Length);
        Assert.Equal("decode dense dv edge paged tile varlen", string.Join(' ', calls.Select(static c => c.Group).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)));
        Assert.Equal(6, calls.DistinctBy(static c => (c.ElementType, c.KeyValueType)).Count());
        Assert.True(files.Sum(static f => new FileInfo(f).Length) <= 800_000);
    }

    /// <summary>What the oracle makes of a case is what the case says: it scales as the law does.</summary>
    [Fact]
    public void The_oracle_agrees_with_every_case()
    {
        foreach (string file in ReferenceFolder.Files(Folder))
        {
            if (QuantizeCase.TryLoad(file) is not null) continue;
            ReferenceCase reference = ReferenceCase.Load(file);
            Oracle.OracleResult oracle = Oracle.CallOracle.Compute(ReferenceRunner.Call(reference, RunOptions.Default), 1, null, TestContext.Current.CancellationToken);
            double[] expected = reference.ExpectedOutput!.ToDoubles();
            for (int i = 0; i < expected.Length; i++) Assert.Equal(expected[i], oracle.Output[i], 1e-6 * Math.Max(1, Math.Abs(expected[i])));
        }
    }

    [Fact]
    public void A_case_whose_codes_or_scales_are_wrong_fails()
    {
        using var folder = new TemporaryFolder();
        string source = ReferenceFolder.Files(Subset).First(static f => Path.GetFileName(f).StartsWith("quantize-001", StringComparison.Ordinal));
        using var file = new SafeTensorsFile(source);
        foreach (string wrong in (string[])["codes", "scale"])
        {
            LoadedTensor tensor = file.Read(wrong);
            byte[] bytes = tensor.Bytes.ToArray();
            bytes[^1] ^= 1;
            string path = Path.Combine(folder.Path, wrong + ".safetensors");
            SafeTensorsWriter.Write(path, [.. file.Names.Select(n => string.Equals(n, wrong, StringComparison.Ordinal) ? new LoadedTensor(n, tensor.ElementType, tensor.Shape, bytes) : file.Read(n))], file.Metadata);
            CaseOutcome outcome = QuantizeCase.TryLoad(path)!.Run();
            Assert.Contains(wrong[..4], outcome.Failure, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_backend_without_8_bits_skips_the_cases_and_says_so()
    {
        FolderOutcome outcome = ReferenceFolder.Run(Subset, ReferenceFolder.Files(Subset), RunOptions.Default, new WideOnly(), static () => { });

        Assert.Equal(49, outcome.Skipped.Count);
        Assert.All(outcome.Skipped, static s => Assert.Contains("8 bits", s.Reason, StringComparison.Ordinal));
    }

    /// <summary>A backend that is asked for nothing.</summary>
    private sealed class WideOnly : Backend
    {
        public override string Name => "wide";

        public override string Title => "wide";

        public override string Clock => "none";

        public override void ThrowIfNotSupported(RunOptions run)
        {
        }

        protected override PreparedCall Prepare<TQuery, TKeyValue>(CallInputs call) => throw new NotSupportedException();

        protected override AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options, RunOptions run) => throw new NotSupportedException();

        protected override MergeResult Merge<TPartial, TOutput>(MergeInputs inputs) => throw new NotSupportedException();

        protected override PreparedCache CreateCache<T>(PagedKeyValueCacheOptions options) => throw new NotSupportedException();
    }
}
