using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Tests.Tool;

public sealed class ConformTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData()]
    [InlineData("--variant", "Scalar")]
    [InlineData("--row-invariant", "--threads", "1")]
    public async Task A_folder_of_every_layout_passes(params string[] options)
    {
        WriteAll();

        ToolRun run = await ToolRun.Execute(["conform", _folder.Path, .. options]);

        run.AssertSucceeds();
        Assert.Equal("3 passed, 0 failed, 0 skipped", run.LastLine);
        Assert.Equal(["group", "dense", "paged", "varlen"], run.OutputLines[..4].Select(l => l.Split(' ')[0]), StringComparer.Ordinal);
    }

    [Theory]
    [InlineData("o")]
    [InlineData("lse")]
    [InlineData("lse_excl_sink")]
    public async Task A_wrong_expectation_fails(string name)
    {
        WriteAll();
        Dictionary<string, LoadedTensor> tensors = GeneratedCases.Dense();
        Dictionary<string, string> metadata = GeneratedCases.Metadata("dense", "fp32");
        string path = _folder.File("dense.safetensors");
        GeneratedCases.Write(path, tensors, metadata);
        double[] values = tensors[name].ToDoubles();
        values[^1] += 1e-3;
        tensors[name] = LoadedTensor.Create<double>(name, values, [.. tensors[name].Shape]).ConvertTo(tensors[name].ElementType);
        SafeTensorsWriter.Write(path, [.. tensors.Values], metadata);

        ToolRun run = await ToolRun.Execute("conform", _folder.Path);

        Assert.Equal(1, run.ExitCode);
        Assert.Equal("2 passed, 1 failed, 0 skipped", run.LastLine);
        Assert.Contains("FAILED dense: ", run.Output, StringComparison.Ordinal);
        Assert.Contains($"at element {values.Length - 1} of {values.Length}", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Files_of_another_form_are_skipped_with_a_reason_and_damaged_ones_fail()
    {
        WriteAll();
        SafeTensorsWriter.Write(_folder.File("other.safetensors"), [LoadedTensor.Create<float>("x", [1], 1)]);
        Directory.CreateDirectory(_folder.File("below"));
        _folder.Write("below/damaged.safetensors", [1, 2, 3]);
        _folder.Write("notes.txt", "no tensors"u8);

        ToolRun run = await ToolRun.Execute("conform", _folder.Path);

        Assert.Equal(1, run.ExitCode);
        Assert.Equal("3 passed, 1 failed, 1 skipped", run.LastLine);
        Assert.Contains("skipped other.safetensors: the metadata has no 'layout'", run.Output, StringComparison.Ordinal);
        Assert.Contains("FAILED damaged: damaged.safetensors: is 3 bytes long", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_folder_without_cases_is_an_error()
    {
        SafeTensorsWriter.Write(_folder.File("other.safetensors"), [LoadedTensor.Create<float>("x", [1], 1)]);

        ToolRun run = await ToolRun.Execute("conform", _folder.Path);

        run.AssertRefused("No file of the reference form");
        Assert.Equal("0 passed, 0 failed, 1 skipped", run.LastLine);
        (await ToolRun.Execute("conform", _folder.File("absent"))).AssertRefused("There is no folder");
    }

    [Fact]
    public void A_case_without_expected_results_is_compared_with_the_oracle()
    {
        var reference = new ReferenceCase("open", GeneratedCases.Dense().Values, GeneratedCases.Metadata("dense", "fp32"));

        CaseOutcome outcome = ReferenceRunner.Run(reference, AttentionOptions.Default, CpuBackend.Instance);

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

    [Fact]
    public void An_error_at_its_limit_passes_and_one_beyond_fails()
    {
        Assert.True(ErrorSummary.Compare([1.5], [1], _ => 0.5).Passed);
        Assert.False(ErrorSummary.Compare([1.5], [1], _ => 0.4999).Passed);
        Assert.False(ErrorSummary.Compare([double.NaN], [1], _ => 1e300).Passed);
        Assert.False(ErrorSummary.Compare([1], [double.NaN], _ => 1e300).Passed);
        Assert.False(ErrorSummary.Compare([-1e38], [double.NegativeInfinity], _ => double.PositiveInfinity).Passed);
        Assert.False(ErrorSummary.Compare([double.PositiveInfinity], [double.NegativeInfinity], _ => 1).Passed);
        Assert.True(ErrorSummary.Compare([double.NegativeInfinity, double.NaN], [double.NegativeInfinity, double.NaN], _ => 0).Passed);
        Assert.True(ErrorSummary.Compare([], [], _ => 0).Passed);

        ErrorSummary error = ErrorSummary.Compare([1, 2, 3, 8], [1, 2.5, 3, 10], i => i == 1 ? 0.25 : 4);
        Assert.Equal((2, 0.5, 0.25, 1, 2), (error.MaxAbsolute, error.WorstError, error.WorstLimit, error.WorstIndex, error.WorstRatio));
        Assert.Equal(Math.Sqrt(4.25 / 4), error.RootMeanSquare, 15);
        Assert.Equal(0.2, error.MaxRelative, 15);
    }

    [Theory]
    [InlineData("F32")]
    [InlineData("F16")]
    [InlineData("BF16")]
    public void Poisoned_outputs_are_nan_in_every_type(string typeName)
    {
        TensorElementType type = TensorElementTypes.FromSafeTensorsName(typeName)!.Value;
        using PreparedCall prepared = CpuBackend.Instance.Prepare(new CallInputs
        {
            Query = GeneratedCases.Random<float>("q", 1, 2, 2, 3).ConvertTo(type),
            Key = GeneratedCases.Random<float>("k", 2, 4, 1, 3).ConvertTo(type),
            Value = GeneratedCases.Random<float>("v", 3, 4, 1, 5).ConvertTo(type),
            Options = AttentionOptions.Default,
        });

        prepared.Poison();
        Assert.Equal(20, prepared.Output.ToDoubles().Count(double.IsNaN));
        Assert.Equal(4, prepared.LogSumExp.ToDoubles().Count(double.IsNaN));

        prepared.Invoke(AttentionOptions.Default);
        Assert.Equal(0, prepared.Output.ToDoubles().Concat(prepared.LogSumExp.ToDoubles()).Count(double.IsNaN));
    }

    [Fact]
    public async Task The_whole_reference_set_passes()
    {
        string? folder = SharedData.ReferenceSet();
        Assert.SkipWhen(folder is null, "There is no reference set, neither in the repository nor beside it.");

        ToolRun run = await ToolRun.Execute("conform", folder!);

        run.AssertSucceeds();
        Assert.Matches("^[1-9][0-9]* passed, 0 failed, 0 skipped$", run.LastLine);
    }

    private void WriteAll()
    {
        GeneratedCases.Write(_folder.File("dense.safetensors"), GeneratedCases.Dense(), GeneratedCases.Metadata("dense", "fp32"));
        GeneratedCases.Write(_folder.File("packed.safetensors"), GeneratedCases.Packed(), GeneratedCases.Metadata("varlen", "fp16", ("window_left", "2")));
        GeneratedCases.Write(_folder.File("paged.safetensors"), GeneratedCases.Paged(), GeneratedCases.Metadata("paged", "bf16", ("softcap", "3")));
    }
}
