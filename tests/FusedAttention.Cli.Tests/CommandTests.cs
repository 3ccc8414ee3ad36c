using System.IO.Compression;
using System.Text.Json;
using FusedAttention.Checking.Formats;
using FusedAttention.Cli.Commands;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>The commands end to end, in this process.</summary>
public sealed class CommandTests : IDisposable
{
    private static readonly string[] InputNames = ["q", "k", "v"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Run_writes_an_output_that_verify_accepts_and_spoilt_refuses()
    {
        string input = WriteInput();
        string output = _folder.File("o.safetensors");
        string[] options = ["--causal", "--alibi", "--soft-cap", "20", "--sinks", "0,1,-1,0.5", "--window", "5,*", "--key-lengths", "9,6"];

        ToolRun run = await ToolRun.Execute(["run", input, .. options, "--lse", "--output", output]);

        run.AssertSucceeds();
        Assert.Matches(@"^verified against double precision: max error [0-9.e-]+ \(limit [0-9.e-]+\)$", run.LastLine);
        foreach (string fact in (ReadOnlySpan<string>)["query", "backend", "kernel", "instruction set", "threads", "time", "GFLOP/s", "peak scratch", "causal window(5, *)"])
            Assert.Contains(fact, run.Output, StringComparison.Ordinal);
        using (var file = new SafeTensorsFile(output))
        {
            Assert.Equal(["o", "lse"], file.Names, StringComparer.Ordinal);
            Assert.Equal([2, 5, 4, 6], file.Read("o").Shape);
            Assert.Equal([2, 4, 5], file.Read("lse").Shape);
        }

        ToolRun verify = await ToolRun.Execute(["verify", input, .. options, "--output-file", output]);
        verify.AssertSucceeds();
        Assert.StartsWith("verified against double precision", verify.LastLine, StringComparison.Ordinal);

        byte[] spoilt = File.ReadAllBytes(output);
        BitConverter.TryWriteBytes(spoilt.AsSpan(spoilt.Length - 4), 1f); // the last log-sum-exp
        ToolRun refused = await ToolRun.Execute(["verify", input, .. options, "--output-file", _folder.Write("spoilt.safetensors", spoilt)]);
        Assert.Equal(1, refused.ExitCode);
        Assert.StartsWith("NOT verified against double precision: log-sum-exp error", refused.LastLine, StringComparison.Ordinal);

        ToolRun other = await ToolRun.Execute("verify", input, "--output-file", output);
        Assert.Equal(1, other.ExitCode);
    }

    [Theory]
    [InlineData("fp16", null)]
    [InlineData("bf16", null)]
    [InlineData("fp32", "fp16")]
    [InlineData("fp32", "bf16")]
    public async Task Types_convert(string dtype, string? kvDtype)
    {
        ToolRun run = await ToolRun.Execute(["verify", WriteInput(), "--dtype", dtype, .. kvDtype is null ? Array.Empty<string>() : ["--kv-dtype", kvDtype]]);

        run.AssertSucceeds();
        Assert.Contains($"[2, 9, 2, 6] {kvDtype ?? dtype}", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Masks_and_biases_come_by_name_or_from_other_files()
    {
        bool[] mask = [.. Enumerable.Range(0, 45).Select(i => i % 3 != 0 && i >= 9)]; // query 0 sees nothing
        string input = WriteInput(LoadedTensor.Create<bool>("allowed", mask, 5, 9), GeneratedCases.Random<Half>("shift", 8, 2, 1, 1, 9));
        NpyFile.Write(_folder.File("allowed.npy"), LoadedTensor.Create<bool>("allowed", mask, 5, 9));

        ToolRun named = await ToolRun.Execute("run", input, "--mask", "allowed", "--bias", "shift", "--output", _folder.File("a.npy"));
        ToolRun file = await ToolRun.Execute("run", input, "--mask", _folder.File("allowed.npy"), "--bias", $"{input}:shift", "--output", _folder.File("b.npy"));

        named.AssertSucceeds();
        file.AssertSucceeds();
        Assert.StartsWith("verified", named.LastLine, StringComparison.Ordinal);
        Assert.Equal(File.ReadAllBytes(_folder.File("a.npy")), File.ReadAllBytes(_folder.File("b.npy")));
        LoadedTensor output = Assert.Single(MalformedFiles.ReadAll(_folder.File("a.npy")));
        Assert.All(output.Elements<float>()[..(4 * 6)].ToArray(), x => Assert.Equal(0f, x));
    }

    [Fact]
    public async Task Three_npy_files_an_archive_and_one_safetensors_file_give_the_same_bits()
    {
        string input = WriteInput();
        string[] paths;
        using (TensorFile file = TensorFile.Open(input))
        {
            paths = [.. InputNames.Select(name => _folder.File(name + ".npy"))];
            foreach (string path in paths) NpyFile.Write(path, file.Read(Path.GetFileNameWithoutExtension(path)));
        }

        using (ZipArchive archive = ZipFile.Open(_folder.File("qkv.npz"), ZipArchiveMode.Create))
        {
            foreach (string path in paths) archive.CreateEntryFromFile(path, Path.GetFileName(path).ToUpperInvariant().Replace(".NPY", ".npy", StringComparison.Ordinal));
        }

        (await ToolRun.Execute("run", input, "--output", _folder.File("1.npy"))).AssertSucceeds();
        (await ToolRun.Execute(["run", .. paths, "--output", _folder.File("2.npy")])).AssertSucceeds();
        (await ToolRun.Execute("run", _folder.File("qkv.npz"), "--output", _folder.File("3.npy"))).AssertSucceeds();
        (await ToolRun.Execute("run", "--query-file", paths[0], "--key-file", paths[1], "--value-file", paths[2], "--output", _folder.File("4.npy"))).AssertSucceeds();
        (await ToolRun.Execute("run", input, "--query", "q", "--key", "k", "--value", "v", "--output", _folder.File("5.npy"))).AssertSucceeds();
        foreach (string other in (ReadOnlySpan<string>)["2.npy", "3.npy", "4.npy", "5.npy"])
            Assert.Equal(File.ReadAllBytes(_folder.File("1.npy")), File.ReadAllBytes(_folder.File(other)));
    }

    [Slow]
    [Fact]
    public async Task The_sample_of_the_repository_verifies_itself()
    {
        Assert.SkipWhen(SharedData.RepositoryRoot is null, "The test does not run inside the repository.");
        string sample = Path.Combine(SharedData.RepositoryRoot!, "samples", "data", "qkv-layer0.safetensors");

        ToolRun run = await ToolRun.Execute("run", sample, "--causal", "--alibi", "--output", _folder.File("o.safetensors"));

        run.AssertSucceeds();
        Assert.StartsWith("verified against double precision", run.LastLine, StringComparison.Ordinal);
    }

    [Slow]
    [Fact]
    public async Task Real_queries_keys_and_values_verify_against_the_output_in_their_file()
    {
        string? folder = SharedData.Folder("real-qkv");
        Assert.SkipWhen(folder is null, "The real tensors do not lie beside the checkout.");
        foreach (string file in Directory.GetFiles(folder!, "*.safetensors"))
        {
            (await ToolRun.Execute("verify", file, "--causal", "--output-file", file, "--output-name", "o_causal", "--lse-name", "lse_causal")).AssertSucceeds();
            (await ToolRun.Execute("verify", file, "--causal")).AssertSucceeds();
        }
    }

    [Fact]
    public async Task Verification_can_be_left_out()
    {
        ToolRun run = await ToolRun.Execute("run", WriteInput(), "--no-verify");

        run.AssertSucceeds();
        Assert.DoesNotContain("verified", run.Output, StringComparison.Ordinal);
        (await ToolRun.Execute("run", WriteInput(), "--no-verify", "--verify")).AssertRefused("exclude each other");
    }

    [Theory]
    [InlineData("", "No query")]
    [InlineData("{0} {0}", "this is two")]
    [InlineData("absent.npz", "There is no file absent.npz")]
    [InlineData("{0} --bogus", "no option --bogus.")]
    [InlineData("{0} --cuasal", "no option --cuasal: did you mean --causal?")]
    [InlineData("--cuasal {0} {0} {0}", "no option --cuasal: did you mean --causal?")]
    [InlineData("{0} --causal=maybe", "--causal takes no value.")]
    [InlineData("{0} --output {0}", "is an input")]
    [InlineData("{0} --query nope", "no tensor or file 'nope'")]
    [InlineData("{0} --window 3", "LEFT,RIGHT")]
    [InlineData("{0} --window 3,-4", "'-4' is not a number of keys")]
    [InlineData("{0} --align center", "bottom-right or top-left")]
    [InlineData("{0} --scale nan", "--scale 'nan' is not a number above 0")]
    [InlineData("{0} --scale 0", "--scale '0' is not a number above 0")]
    [InlineData("{0} --scale 0,5", "--scale '0,5' is not a number above 0")]
    [InlineData("{0} --scale 1e40", "--scale '1e40' is not a number above 0")]
    [InlineData("{0} --scale wide", "--scale 'wide' is not a number above 0")]
    [InlineData("{0} --soft-cap -1", "--soft-cap '-1' is not a number of 0 or more")]
    [InlineData("{0} --soft-cap 1,5", "--soft-cap '1,5' is not a number of 0 or more")]
    [InlineData("{0} --query-offset 1.5", "--query-offset '1.5' is not a whole number.")]
    [InlineData("{0} --sinks 1,2", "2 sink logits for 4 query heads")]
    [InlineData("{0} --alibi --alibi-slopes 1,1,1,1", "give one")]
    [InlineData("{0} --key-lengths 3", "1 key lengths for a batch of 2")]
    [InlineData("{0} --key-lengths 3,10", "10 is not from 0 to 9")]
    [InlineData("{0} --mask q", "must be of BOOL")]
    [InlineData("{0} --bias q", "does not broadcast to [2, 4, 5, 9]")]
    [InlineData("{0} --dtype fp8", "'fp8' is not fp32, fp16 or bf16")]
    [InlineData("{0} --dtype fp16 --kv-dtype fp32", "not defined here on queries of F16")]
    [InlineData("{0} --kv-dtype int4", "'int4' is not fp32, fp16, bf16, int8, fp8 or q8_0")]
    [InlineData("{0} --kv-dtype q8_0", "k [2, 9, 2, 6] has rows of 6 numbers; q8_0 needs multiples of 32")]
    [InlineData("{0} --kv-dtype int8 --key-scale q", "--key-scale goes with codes of I8 or F8_E4M3, not with k [2, 9, 2, 6] F32")]
    [InlineData("{0} --threads 0", "--threads '0' is not a whole number of 1 or more")]
    [InlineData("{0} --threads two", "--threads 'two' is not a whole number")]
    [InlineData("{0} --instruction-set Sse9", "--instruction-set 'Sse9' is not one of Auto, Scalar")]
    [InlineData("{0} --machine-code 2", "--machine-code '2' is not one of Auto, Off, Required.")]
    [InlineData("{0} --variant Sse9", "Auto, Scalar")]
    [InlineData("{0} --backend tpu", "'tpu' is not there")]
    [InlineData("{0} --lse", "--output")]
    [InlineData("{0} --output o.txt", "must end in .safetensors or .npy")]
    [InlineData("{0} --output o.npy --lse", "one tensor")]
    [InlineData("{0} --output o.npy --dtype bf16", "no bfloat16")]
    [InlineData("{0} --output no/such/folder/o.npy", "there is no folder")]
    public async Task Bad_options_are_one_message_and_exit_code_2(string arguments, string words)
    {
        string input = WriteInput();

        ToolRun run = await ToolRun.Execute(["run", .. arguments.Replace("{0}", input, StringComparison.Ordinal).Split(' ', StringSplitOptions.RemoveEmptyEntries)]);

        run.AssertRefused(words);
    }

    [Fact]
    public async Task Tensors_that_do_not_fit_each_other_are_named()
    {
        string path = _folder.File("x.safetensors");
        SafeTensorsWriter.Write(path, [GeneratedCases.Random<float>("q", 1, 4, 3, 8), GeneratedCases.Random<float>("k", 2, 4, 2, 8), GeneratedCases.Random<float>("v", 3, 4, 2, 8)]);
        (await ToolRun.Execute("run", path)).AssertRefused("3 query heads", "2 key/value heads", "q [4, 3, 8] F32");

        SafeTensorsWriter.Write(path, [GeneratedCases.Random<float>("q", 1, 4, 2, 8), GeneratedCases.Random<float>("k", 2, 4, 2, 9), GeneratedCases.Random<float>("v", 3, 4, 2, 8)]);
        (await ToolRun.Execute("run", path)).AssertRefused("k [4, 2, 9] F32");

        SafeTensorsWriter.Write(path, [GeneratedCases.Random<float>("q", 1, 8), GeneratedCases.Random<float>("k", 2, 8), GeneratedCases.Random<float>("v", 3, 8)]);
        (await ToolRun.Execute("run", path)).AssertRefused("q [8] F32");

        SafeTensorsWriter.Write(path, [LoadedTensor.Create<int>("q", [1], 1, 1, 1), GeneratedCases.Random<float>("k", 2, 1, 1, 1), GeneratedCases.Random<float>("v", 3, 1, 1, 1)]);
        (await ToolRun.Execute("run", path)).AssertRefused("q [1, 1, 1] I32");

        (await ToolRun.Execute("run", _folder.Write("cut.safetensors", [1, 2]))).AssertRefused("cut.safetensors: is 2 bytes long");
    }

    [Fact]
    public async Task Bench_prints_one_line_of_json()
    {
        ToolRun run = await ToolRun.Execute(
            "bench", "--batch", "2", "--query-heads", "4", "--kv-heads", "2", "--query-length", "3", "--key-length", "20", "--dim", "16", "--value-dim", "8",
            "--dtype", "fp32", "--kv-dtype", "fp16", "--mask", "window:4,0", "--paged", "4", "--threads", "1", "--seconds", "0.01", "--json");

        run.AssertSucceeds();
        using JsonDocument json = JsonDocument.Parse(Assert.Single(run.OutputLines));
        JsonElement root = json.RootElement;
        Assert.Equal("cpu", root.GetProperty("backend").GetString());
        Assert.Equal("window:4,0", root.GetProperty("mask").GetString());
        Assert.Equal(4, root.GetProperty("paged").GetInt32());
        Assert.Equal(20, root.GetProperty("key_length").GetInt32());
        Assert.Equal("fp16", root.GetProperty("kv_dtype").GetString());
        foreach (string number in (ReadOnlySpan<string>)["milliseconds", "milliseconds_median", "gflops", "gbps"])
            Assert.True(root.GetProperty(number).GetDouble() > 0, number);
        Assert.False(root.TryGetProperty("ceiling_gflops", out _));

        // 2 sequences x 4 heads x 3 queries x 5 keys x 2 x (16 + 8), over the time of one call.
        Assert.Equal(2 * 4 * 3 * 5 * 2 * 24, root.GetProperty("gflops").GetDouble() * root.GetProperty("milliseconds").GetDouble() * 1e6, 300.0);
    }

    [Fact]
    public async Task Bench_info_and_explain_print_text()
    {
        ToolRun bench = await ToolRun.Execute("bench", "--query-length", "8", "--dim", "8", "--seconds", "0.01", "--mask", "causal");
        bench.AssertSucceeds();
        Assert.Contains("GFLOP/s", bench.Output, StringComparison.Ordinal);

        ToolRun info = await ToolRun.Execute("info");
        info.AssertSucceeds();
        Assert.Contains("Scalar", info.Output, StringComparison.Ordinal);
        Assert.Contains("backend cpu", info.Output, StringComparison.Ordinal);

        ToolRun explain = await ToolRun.Execute("explain", "--query-length", "1", "--key-length", "1000", "--paged", "16");
        explain.AssertSucceeds();
        Assert.Contains("decode", explain.Output, StringComparison.Ordinal);

        (await ToolRun.Execute("bench", "--mask", "diagonal")).AssertRefused("full, causal, window:LEFT,RIGHT");
        (await ToolRun.Execute("bench", "--dim", "0")).AssertRefused("--dim '0' is not a whole number from 1 to 4096");
        (await ToolRun.Execute("bench", "--batch", "10000000")).AssertRefused("--batch '10000000' is not a whole number from 1 to 100000");
        (await ToolRun.Execute("bench", "--seconds", "0,5")).AssertRefused("--seconds '0,5' is not a time above 0");
        (await ToolRun.Execute("bench", "--dmi", "8")).AssertRefused("There is no option --dmi: did you mean --dim?");
        (await ToolRun.Execute("bench", "--heads", "8")).AssertRefused("There is no option --heads: did you mean --query-heads or --kv-heads?"); // not --threads, which looks more like it
        (await ToolRun.Execute("bench", "--query-heads", "3", "--kv-heads", "2", "--seconds", "0.01")).AssertRefused();
        (await ToolRun.Execute("bench", "--key-length", "2000000000")).AssertRefused("passes");
        (await ToolRun.Execute("bench", "--seconds", "-1")).AssertRefused("--seconds '-1' is not a time above 0");
    }

    [Theory]
    [InlineData("run")]
    [InlineData("verify")]
    [InlineData("conform")]
    [InlineData("info")]
    [InlineData("explain")]
    [InlineData("bench")]
    [InlineData("quantize")]
    public async Task Every_command_has_help(string command)
    {
        ToolRun help = await ToolRun.Execute(command, "--help");
        help.AssertSucceeds();
        Assert.Contains($"fused-attention {command}", help.Output, StringComparison.Ordinal);
        Assert.Contains(command, (await ToolRun.Execute("--help")).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Version_is_printed_and_no_command_is_an_error()
    {
        ToolRun version = await ToolRun.Execute("--version");
        version.AssertSucceeds();
        Assert.Matches(@"^[0-9]+\.[0-9]+", version.Output);
        (await ToolRun.Execute()).AssertRefused("--help", "run, verify, conform");
        (await ToolRun.Execute("dance")).AssertRefused("There is no command dance. The commands are run");
        (await ToolRun.Execute("verfiy")).AssertRefused("There is no command verfiy: did you mean verify?");
    }

    [Fact]
    public async Task Numbers_that_are_not_finite_are_named_and_not_verified()
    {
        string path = _folder.File("x.safetensors");
        float[] key = new float[2 * 3], value = new float[2 * 3];
        key.AsSpan().Fill(float.NaN);
        SafeTensorsWriter.Write(path, [GeneratedCases.Random<float>("q", 1, 2, 1, 3), LoadedTensor.Create<float>("k", key, 2, 1, 3), LoadedTensor.Create<float>("v", value, 2, 1, 3)]);
        ToolRun run = await ToolRun.Execute("run", path);
        Assert.Equal(1, run.ExitCode);
        Assert.Contains("NOT verified: key holds NaN at [0, 0, 0], and limits are for finite numbers", run.Output, StringComparison.Ordinal);

        key.AsSpan().Clear();
        value[4] = float.PositiveInfinity;
        SafeTensorsWriter.Write(path, [GeneratedCases.Random<float>("q", 1, 2, 1, 3), LoadedTensor.Create<float>("k", key, 2, 1, 3), LoadedTensor.Create<float>("v", value, 2, 1, 3)]);
        run = await ToolRun.Execute("run", path);
        run.AssertSucceeds();
        Assert.Contains("; value holds an infinity at [1, 0, 1]", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_wrong_result_is_placed_by_its_indices()
    {
        string input = WriteInput(), output = _folder.File("o.safetensors");
        ToolRun run = await ToolRun.Execute("run", input, "--causal", "--output", output);
        run.AssertSucceeds();
        Assert.Matches(@"best of \d+ calls, first", run.Output);
        ToolRun verify = await ToolRun.Execute("verify", input, "--output-file", output);
        Assert.Equal(1, verify.ExitCode);
        Assert.Matches(@"output error .* at \[[01], \d, \d, \d\] of \[2, 5, 4, 6\]", verify.Output);
        Assert.Contains("another mask, scale or layout", verify.Output, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(Path.GetDirectoryName(output)!, "*.part"));
    }

    [Fact]
    public async Task Names_of_files_are_shortened_and_shown_as_typed()
    {
        string path = _folder.File("many.safetensors"), npy = _folder.File("q.npy");
        SafeTensorsWriter.Write(path, [.. Enumerable.Range(0, 160).Select(static i => LoadedTensor.Create<float>(i == 100 ? "blocks.0.q_proj" : $"layer\u001b{i}", [1], 1))]);
        ToolRun run = await ToolRun.Execute("run", path);
        run.AssertRefused($"{path} has no tensor 'q' or 'query'", "it has blocks.0.q_proj, ", "layer\\u001b6 and 152 more");
        Assert.DoesNotContain('\u001b', run.Error);
        NpyFile.Write(npy, LoadedTensor.Create<float>("q", [1], 1, 1, 1));
        (await ToolRun.Execute("run", npy)).AssertRefused("give three .npy files");
    }

    [Theory]
    [InlineData("run {0} --causal", "\"verified\":true")]
    [InlineData("verify {0} --causal", "\"verified\":true")]
    [InlineData("explain --query-length 8", "\"kernel\":\"decode\"")]
    [InlineData("info", "\"logical_processors\":")]
    public async Task Json_is_one_line(string arguments, string part)
    {
        ToolRun run = await ToolRun.Execute([.. arguments.Replace("{0}", WriteInput(), StringComparison.Ordinal).Split(' '), "--json"]);
        run.AssertSucceeds();
        Assert.Contains(part, run.Output, StringComparison.Ordinal);
        Assert.Equal(JsonValueKind.Object, JsonDocument.Parse(run.Output).RootElement.ValueKind);
        Assert.Single(run.Output.TrimEnd().Split('\n'));
    }

    /// <summary>Examples are there to be copied: no line of them is broken, and none stands in the list of commands.</summary>
    [Fact]
    public async Task Help_lists_commands_in_a_line_each_and_examples_unbroken()
    {
        string root = (await ToolRun.Execute("--help")).Output, conform = (await ToolRun.Execute("conform", "--help")).Output;
        Assert.DoesNotContain("Examples:", root, StringComparison.Ordinal);
        Assert.All(root[root.IndexOf("Commands:", StringComparison.Ordinal)..].Split('\n'), static line => Assert.InRange(line.TrimEnd().Length, 0, 80));
        Assert.Contains("  fused-attention conform tests/data/reference --instruction-set Vector128 --threads 1 --row-invariant", conform, StringComparison.Ordinal);
    }

    /// <summary>Only lines that are there to be copied are longer.</summary>
    [Fact]
    public async Task Help_keeps_to_the_width()
    {
        string[] commands = [.. RegisteredBackends.OfThisMachine.Providers.Where(static p => p.Source is not null).Select(static p => $"{p.Name}-source"), "run", "verify", "conform", "info", "explain", "bench", "quantize"];
        foreach (string command in commands)
        {
            ToolRun run = await ToolRun.Execute(null, 80, command, "--help");
            run.AssertSucceeds();
            Assert.All(run.OutputLines.Where(static line => !line.StartsWith("  fused-attention ", StringComparison.Ordinal)), line => Assert.True(line.TrimEnd().Length <= 80, $"{command}: {line}"));
            Assert.Contains("--json", run.Output, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Prose_is_broken_anew_and_examples_are_not()
    {
        const string Text = "One two three four\nfive.\n\nSix:\n  seven eight nine ten eleven\nabcdefghijklmnopq x";
        Assert.Equal("One two\nthree four\nfive.\n\nSix:\n  seven eight nine ten eleven\nabcdefghijklmnopq\nx", TextWrap.Prose(Text, 10));
    }

    [Theory]
    [InlineData("quantize", "Give IN and OUT.")]
    [InlineData("conform", "Give DIRECTORY.")]
    public async Task A_missing_argument_is_asked_for_by_its_name(string command, string words) => (await ToolRun.Execute(command)).AssertRefused(words);

    /// <summary>The first call of a large shape takes seconds, in which nothing else can move.</summary>
    [Fact]
    public void Progress_by_the_clock_shows_the_warm_up_and_moves_within_a_call()
    {
        var progress = new ClockProgress("measuring");
        Assert.Equal(("measuring: warming up, 0 s", null), progress.At(TimeSpan.Zero));
        Assert.Equal(("measuring: warming up, 7 s", null), progress.At(TimeSpan.FromSeconds(7.9)));
        progress.Expect(TimeSpan.FromSeconds(40));
        Assert.Equal(("measuring", 0.25), progress.At(TimeSpan.FromSeconds(10)));
        Assert.Equal(("measuring", 0.99), progress.At(TimeSpan.FromSeconds(50)));
    }

    /// <summary>[2, 5, 4, 6] queries over [2, 9, 2, 6] keys and values, and whatever else the test wants in the file.</summary>
    private string WriteInput(params ReadOnlySpan<LoadedTensor> more)
    {
        string path = _folder.File("input.safetensors");
        SafeTensorsWriter.Write(
            path,
            [GeneratedCases.Random<float>("q", 1, 2, 5, 4, 6), GeneratedCases.Random<float>("k", 2, 2, 9, 2, 6), GeneratedCases.Random<float>("v", 3, 2, 9, 2, 6), .. more]);
        return path;
    }
}
