using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>The cases with score and mask functions, the whole set where it lies beside the repository, else the committed part, on every variant and in the other arithmetic.</summary>
public sealed class ReferenceFunctionTests
{
    public static TheoryData<string> Cases => [.. ReferenceData.Names(ReferenceData.Functions)];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Case_passes_on_every_variant(string name)
    {
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            foreach (bool rowInvariant in (ReadOnlySpan<bool>)[false, true])
            {
                CaseOutcome outcome = ReferenceRunner.Run(Load(name), new() { Execution = new() { InstructionSet = variant }, RowInvariant = rowInvariant }, CpuBackend.Instance);
                Assert.True(outcome.Passed, $"{name}, {variant}{(rowInvariant ? ", row-invariant" : "")}: {outcome.Failure}");
            }
        }
    }

    /// <summary>The oracle has the expected results too: cases that come without any are compared with it.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void The_oracle_agrees_with_the_expected_results(string name)
    {
        ReferenceCase reference = Load(name);
        CallInputs call = ReferenceRunner.Call(reference, RunOptions.Default);
        Oracle.OracleResult oracle = Oracle.CallOracle.Compute(call, 2, null, CancellationToken.None);

        double[] output = reference.ExpectedOutput!.ToDoubles(), logSumExp = reference.ExpectedLogSumExp!.ToDoubles();
        for (int i = 0; i < output.Length; i++) Assert.Equal(output[i], oracle.Output[i], 1e-6);
        for (int i = 0; i < logSumExp.Length; i++) Assert.True(logSumExp[i].Equals(oracle.LogSumExp[i]) || Math.Abs(logSumExp[i] - oracle.LogSumExp[i]) < 1e-6, $"log-sum-exp {i}");
    }

    [Fact]
    public void The_committed_part_has_every_function_and_layout()
    {
        string[] names = ReferenceData.Names(ReferenceData.FunctionSubset);
        string[] functions = ["t5", "token_bias", "sqrt_past", "stride_neginf", "temperature", "logn", "ssmax", "alibi2d", "tanh_cap", "mixed", "document", "prefix_lm", "dilated", "head_mod", "global_local"];
        foreach (string function in functions) Assert.Contains(names, name => name.Contains(function, StringComparison.Ordinal));
        Assert.Equal(3, names.Select(name => ReferenceCase.Load(Path.Combine(ReferenceData.FunctionSubset, name + ".safetensors")).Layout).Distinct().Count());
        Assert.True(Directory.EnumerateFiles(ReferenceData.FunctionSubset).Sum(file => new FileInfo(file).Length) < 600_000);
    }

    [Theory]
    [InlineData("score_fn", "cosine", "score_fn names 'cosine'")]
    [InlineData("mask_fn", "t5", "mask_fn names 't5'")]
    [InlineData("score_fn", "temperature", "there is no tensor 'temperature'")]
    [InlineData("score_fn", "tanh_cap", "the metadata has no 'tanh_cap'")]
    public void What_a_function_lacks_says_so(string entry, string value, string words)
    {
        var e = Assert.Throws<NotReferenceFormException>(() => new ReferenceCase("x", GeneratedCases.Dense().Values, GeneratedCases.Metadata("dense", "fp32", (entry, value))));
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
    }

    private static ReferenceCase Load(string name) => ReferenceCase.Load(Path.Combine(ReferenceData.Functions, name + ".safetensors"));
}
