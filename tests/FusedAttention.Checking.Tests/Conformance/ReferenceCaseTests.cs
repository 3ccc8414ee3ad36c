using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>A case of the reference form: what it must have, and what it is held to.</summary>
public sealed class ReferenceCaseTests
{
    [Fact]
    public void A_case_without_expected_results_is_compared_with_the_oracle()
    {
        var reference = new ReferenceCase("open", GeneratedCases.Dense().Values, GeneratedCases.Metadata("dense", "fp32"));

        CaseOutcome outcome = ReferenceRunner.Run(reference, RunOptions.Default, CpuBackend.Instance);

        Assert.Null(outcome.Failure);
        Assert.Equal(2 * 4 * 6 * 3, outcome.Output!.Count);
    }

    [Theory]
    [InlineData("dense", "k", "layout is 'sparse'", "layout", "sparse")]
    [InlineData("dense", "k", "dtype is 'fp8'", "dtype", "fp8")]
    [InlineData("dense", "k", "align is 'middle'", "align", "middle")]
    [InlineData("dense", "k", "scale is 'wide'", "scale", "wide")]
    [InlineData("dense", "k", "Scale must be finite", "scale", "nan")]
    [InlineData("dense", "k", "causal is 'yes'", "causal", "yes")]
    [InlineData("dense", "q", "k", "x", "x", true)]
    public void What_is_not_of_the_form_says_why(string layout, string remove, string words, string name, string value, bool without = false)
    {
        Dictionary<string, LoadedTensor> tensors = GeneratedCases.Dense();
        if (without) tensors.Remove(remove);

        var e = Assert.Throws<NotReferenceFormException>(() => new ReferenceCase("x", tensors.Values, GeneratedCases.Metadata(layout, "fp32", (name, value))));

        Assert.Contains(without ? $"there is no tensor '{remove}'" : words, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("fp32", 1e-6, 6e-6)]
    [InlineData("fp16", 1e-3, 2.001e-3)]
    [InlineData("bf16", 8e-3, 1.6001e-2)]
    public void The_limits_are_those_of_the_reference_set(string dtype, double emulated, double limit)
    {
        Dictionary<string, LoadedTensor> tensors = GeneratedCases.Dense();
        TensorElementType type = dtype switch { "fp32" => TensorElementType.Float32, "fp16" => TensorElementType.Float16, _ => TensorElementType.BFloat16 };
        foreach (string name in (ReadOnlySpan<string>)["q", "k", "v"]) tensors[name] = tensors[name].ConvertTo(type);
        var reference = new ReferenceCase("x", tensors.Values, GeneratedCases.Metadata("dense", dtype, ("emulated_max_abs_err", emulated.ToString("r"))));

        Assert.Equal(limit, ReferenceRunner.OutputLimit(reference)!.Value, 1e-15);
        Assert.Equal(1e-5, ReferenceRunner.LogSumExpLimit(0));
        Assert.Equal(1e-5 + 2e-6, ReferenceRunner.LogSumExpLimit(-2), 1e-18);
    }
}
