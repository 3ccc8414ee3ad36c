using System.Text.Json;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>Keys and values of 8 bits on the command line: quantized on the way, read from files, and written to files.</summary>
public sealed class EightBitTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("int8", null, "[2, 9, 2, 64]")]
    [InlineData("fp8", "fp16", "[2, 9, 2, 64]")]
    [InlineData("q8_0", "fp16", "[2, 9, 2, 2]")]
    public async Task Quantized_on_the_way_and_in_a_file_give_the_same_bits(string type, string? dtype, string shape)
    {
        string input = WriteInput(), quantized = _folder.File("8.safetensors");
        string[] options = ["--causal", .. dtype is null ? Array.Empty<string>() : ["--dtype", dtype]];
        ToolRun run = await ToolRun.Execute(["run", input, .. options, "--kv-dtype", type, "--output", _folder.File("1.safetensors")]);
        run.AssertSucceeds();
        Assert.StartsWith("verified against double precision", run.LastLine, StringComparison.Ordinal);
        Assert.Contains($"{shape} {type}", run.Output, StringComparison.Ordinal);

        ToolRun quantize = await ToolRun.Execute("quantize", input, quantized, "--kv-dtype", type);
        quantize.AssertSucceeds();
        Assert.Equal($"written to {quantized}", quantize.LastLine);

        // Bytes of blocks are told from other bytes by the option; codes speak for themselves.
        string[] read = type.Equals("q8_0", StringComparison.Ordinal) ? ["--kv-dtype", type] : [];
        (await ToolRun.Execute(["run", quantized, .. options, .. read, "--output", _folder.File("2.safetensors")])).AssertSucceeds();
        Assert.Equal(File.ReadAllBytes(_folder.File("1.safetensors")), File.ReadAllBytes(_folder.File("2.safetensors")));

        // The other results are of other numbers.
        (await ToolRun.Execute(["run", input, .. options, "--output", _folder.File("3.safetensors")])).AssertSucceeds();
        Assert.NotEqual(File.ReadAllBytes(_folder.File("1.safetensors")), File.ReadAllBytes(_folder.File("3.safetensors")));
        ToolRun verify = await ToolRun.Execute(["verify", quantized, .. options, .. read, "--output-file", _folder.File("1.safetensors")]);
        verify.AssertSucceeds();
        Assert.Equal(1, (await ToolRun.Execute(["verify", input, .. options, "--output-file", _folder.File("1.safetensors")])).ExitCode);
    }

    [Fact]
    public async Task Quantize_writes_the_reference_form_and_reports_errors()
    {
        string input = WriteInput(LoadedTensor.Create<float>("o", [1, 2], 2)), output = _folder.File("8.safetensors");
        ToolRun run = await ToolRun.Execute("quantize", input, output, "--json");
        run.AssertSucceeds();

        using TensorFile before = TensorFile.Open(input), after = TensorFile.Open(output);
        Assert.Equal(["q", "o", "k", "k_scale", "v", "v_scale"], after.Names, StringComparer.Ordinal);
        Assert.Equal(("int8", "token_head", "token_head"), (after.Metadata["kv_dtype"], after.Metadata["k_scale_kind"], after.Metadata["v_scale_kind"]));
        Assert.Equal([2, 9, 2], after.Read("v_scale").Shape);
        Assert.Equal(TensorElementType.Int8, after.Read("v").ElementType);
        foreach (string copied in (ReadOnlySpan<string>)["q", "o"]) Assert.Equal(before.Read(copied).Bytes, after.Read(copied).Bytes);

        // The error of the report is that of the file.
        (double[] numbers, double[] codes, float[] scales) = (before.Read("v").ToDoubles(), after.Read("v").ToDoubles(), after.Read("v_scale").Elements<float>().ToArray());
        double most = numbers.Select((number, i) => Math.Abs(number - (codes[i] * scales[i / 64]))).Max();
        using JsonDocument json = JsonDocument.Parse(run.Output);
        Assert.Equal(most, json.RootElement.GetProperty("value_error").GetProperty("max_absolute").GetDouble());
        Assert.InRange(most, 1e-4, 2 / 127.0 / 2 * 1.001); // half a step of numbers up to 2
        Assert.InRange(json.RootElement.GetProperty("key_error").GetProperty("rms_relative").GetDouble(), 1e-3, 8e-3);
        Assert.Equal(0, json.RootElement.GetProperty("key_error").GetProperty("not_finite").GetInt32());
    }

    [Fact]
    public async Task Scales_of_a_file_are_its_own_or_those_that_are_named()
    {
        string quantized = _folder.File("8.safetensors"), other = _folder.File("other.safetensors");
        (await ToolRun.Execute("quantize", WriteInput(), quantized)).AssertSucceeds();
        NpyFile.Write(_folder.File("twice.npy"), LoadedTensor.Create<float>("twice", [2], 1));
        (await ToolRun.Execute("run", quantized, "--output", other)).AssertSucceeds();
        Assert.Equal(1, (await ToolRun.Execute("verify", quantized, "--value-scale", _folder.File("twice.npy"), "--output-file", other)).ExitCode);
        (await ToolRun.Execute("run", quantized, "--value-scale", _folder.File("twice.npy"), "--key-scale", _folder.File("twice.npy"), "--output", other)).AssertSucceeds();
        (await ToolRun.Execute("verify", quantized, "--value-scale", _folder.File("twice.npy"), "--key-scale", _folder.File("twice.npy"), "--output-file", other)).AssertSucceeds();
        (await ToolRun.Execute("run", quantized, "--key-scale", "q")).AssertRefused("does not broadcast");
        (await ToolRun.Execute("run", quantized, "--kv-dtype", "fp8")).AssertRefused("holds codes of int8 already");
        (await ToolRun.Execute("quantize", quantized, other)).AssertRefused("has a tensor 'k_scale' already");
    }

    [Fact]
    public async Task What_cannot_be_quantized_is_named()
    {
        string input = WriteInput(), output = _folder.File("8.safetensors");
        (await ToolRun.Execute("quantize", input, input)).AssertRefused("is an input");
        (await ToolRun.Execute("quantize", input, _folder.File("8.npy"))).AssertRefused("must end in .safetensors");
        (await ToolRun.Execute("quantize", input, output, "--kv-dtype", "fp16")).AssertRefused("'fp16' is not int8, fp8 or q8_0");
        (await ToolRun.Execute("quantize", input, output, "--key", "w")).AssertRefused("has no tensor 'w'", "--key NAME takes another one");
        (await ToolRun.Execute("quantize", input, output, "--key", "v")).AssertRefused("'v' cannot be key and value at once");
        Assert.False(File.Exists(output));

        float[] key = [1, 2, float.NaN, 4];
        string path = _folder.File("nan.safetensors");
        SafeTensorsWriter.Write(path, [LoadedTensor.Create<float>("k", key, 2, 1, 2), LoadedTensor.Create<float>("v", [1, 2, 3, 4], 2, 1, 2)]);
        ToolRun run = await ToolRun.Execute("quantize", path, output);
        run.AssertSucceeds();
        Assert.Contains("k [2, 1, 2] F32 has 1 numbers that are not finite", run.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("int8")]
    [InlineData("fp8")]
    [InlineData("q8_0")]
    public async Task Bench_and_explain_know_the_types(string type)
    {
        string[] shape = ["--query-heads", "4", "--kv-heads", "2", "--query-length", "1", "--key-length", "100", "--dim", "64", "--dtype", "fp16", "--kv-dtype", type, "--paged", "16"];
        ToolRun bench = await ToolRun.Execute(["bench", .. shape, "--seconds", "0.01", "--json"]);
        bench.AssertSucceeds();
        using JsonDocument json = JsonDocument.Parse(bench.Output);
        Assert.Equal(type, json.RootElement.GetProperty("kv_dtype").GetString());
        ToolRun explain = await ToolRun.Execute(["explain", .. shape]);
        explain.AssertSucceeds();
        Assert.Contains("decode", explain.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Bench_refuses_rows_that_are_no_whole_blocks()
        => (await ToolRun.Execute("bench", "--query-length", "1", "--dim", "20", "--kv-dtype", "q8_0")).AssertRefused("shape has a key dimension of 20");

    [Slow]
    [Theory]
    [InlineData("over int8")]
    [InlineData("over fp8")]
    [InlineData("over q8_0")]
    public async Task The_processor_is_verified_with_them(string type)
    {
        ToolRun run = await ToolRun.Execute("verify", "--only", type);
        run.AssertSucceeds();
        Assert.Contains("keys and values of 8 bits", run.Output, StringComparison.Ordinal);
    }

    /// <summary>What benchmarks and checks compute on is what the rules make of the numbers, with NaN where no query looks.</summary>
    [Fact]
    public void Random_problems_are_quantized_by_the_rules()
    {
        CallInputs call = new CallRecipe { QueryLengths = [1, 1], KeyLengths = [5, 3], KeyDim = 8, ValueDim = 8, KeyValueType = TensorElementType.Int8 }.CreateCall(RunOptions.Default);
        float[] numbers = new float[2 * 5 * 2 * 8], scales = new float[2 * 5 * 2];
        RandomNumbers.Uniform(2, numbers.Length, 1).CopyTo(numbers);
        sbyte[] codes = new sbyte[numbers.Length];
        KeyValueQuantization.ToInt8<float>(numbers, 8, codes, scales);
        scales.AsSpan(8 * 2).Fill(BitConverter.UInt32BitsToSingle(uint.MaxValue));
        codes.AsSpan(8 * 2 * 8).Fill(-1);
        Assert.Equal(codes, call.Key.Elements<sbyte>().ToArray());
        Assert.Equal(scales.Select(BitConverter.SingleToInt32Bits), call.KeyScale!.Elements<float>().ToArray().Select(BitConverter.SingleToInt32Bits));
    }

    /// <summary>[2, 5, 4, 64] queries over [2, 9, 2, 64] keys and values, and whatever else the test wants in the file.</summary>
    private string WriteInput(params ReadOnlySpan<LoadedTensor> more)
    {
        string path = _folder.File("input.safetensors");
        SafeTensorsWriter.Write(
            path,
            [GeneratedCases.Random<float>("q", 1, 2, 5, 4, 64), GeneratedCases.Random<float>("k", 2, 2, 9, 2, 64), GeneratedCases.Random<float>("v", 3, 2, 9, 2, 64), .. more]);
        return path;
    }
}
