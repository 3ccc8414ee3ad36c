using System.Text;
using FusedAttention.Samples.TextGeneration;
using FusedAttention.Samples.TextGeneration.Commands;
using FusedAttention.Samples.TextGeneration.Loading;
using FusedAttention.Samples.TextGeneration.Model;
using Xunit;

namespace FusedAttention.Samples.Tests;

/// <summary>The sample's parts: matrix product, sampler, tokenizer, files and command line.</summary>
public sealed class SampleTests
{
    [Fact]
    public void The_matrix_product_is_right_and_row_invariant()
    {
        var random = new Random(1);
        foreach ((int rows, int outputs, int inputs) in ((int, int, int)[])[(1, 1, 1), (7, 33, 17), (9, 37, 64), (13, 70, 172), (6, 256, 384)])
        {
            float[] x = Numbers(rows * inputs);
            var weights = new Matrix(outputs, inputs, Numbers(outputs * inputs));
            float[] all = new float[rows * outputs];
            MatrixProduct.Multiply(x, weights, all, rows, new() { MaxDegreeOfParallelism = 2 });
            for (int row = 0; row < rows; row++)
            {
                float[] alone = new float[outputs];
                MatrixProduct.Multiply(x[(row * inputs)..((row + 1) * inputs)], weights, alone, 1, new() { MaxDegreeOfParallelism = 1 });
                CallResult.AssertSameBits(alone, all.AsSpan(row * outputs, outputs), $"row {row} of {rows}, {outputs} x {inputs}");
                for (int output = 0; output < outputs; output++)
                {
                    double expected = 0;
                    for (int i = 0; i < inputs; i++) expected += (double)x[(row * inputs) + i] * weights.Row(output)[i];
                    Assert.Equal(expected, alone[output], 1e-4);
                }
            }
        }

        float[] Numbers(int count) => [.. Enumerable.Range(0, count).Select(_ => (random.NextSingle() * 2) - 1)];
    }

    [Fact]
    public void A_text_that_ends_in_a_loop_is_told_from_one_that_does_not()
    {
        Assert.Null(Repetition.Of([]));
        Assert.Null(Repetition.Of([1, 2, 3, 4, 5, 6]));
        Assert.Null(Repetition.Of([9, 1, 2, 3, 1, 2, 3])); // twice
        Assert.Equal(new Repetition(3, 9), Repetition.Of([9, 1, 2, 3, 1, 2, 3, 1, 2, 3]));
        Assert.Equal(new Repetition(3, 10), Repetition.Of([9, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]));
        Assert.Equal(new Repetition(1, 4), Repetition.Of([9, 1, 1, 1, 1]));
        Assert.Null(Repetition.Of([1, 1, 1, 1, 9]));
    }

    [Fact]
    public void The_sampler_follows_probabilities_seed_and_top_p()
    {
        float[] logits = [MathF.Log(0.1f), MathF.Log(0.6f), MathF.Log(0.3f)];
        Assert.Equal(1, Sampler.Greedy().Choose(logits));
        int[] counts = Draw(1, 1, 5);
        Assert.InRange(counts[0], 800, 1200);
        Assert.InRange(counts[1], 5700, 6300);
        Assert.Equal(counts, Draw(1, 1, 5));
        Assert.NotEqual(counts, Draw(1, 1, 6));
        Assert.Equal(0, Draw(1, 0.85, 5)[0]);
        Assert.Equal(10_000, Draw(1, 0.5, 5)[1]);
        Assert.True(Draw(0.3, 1, 5)[1] > 8500);

        int[] Draw(double temperature, double topP, int seed)
        {
            var sampler = new Sampler(temperature, topP, seed);
            int[] drawn = new int[3];
            for (int i = 0; i < 10_000; i++) drawn[sampler.Choose(logits)]++;
            return drawn;
        }
    }

    [Fact]
    public void Pieces_are_merged_and_put_together_again()
    {
        LoadedModel stories = Models.Stories;
        foreach (string text in (string[])["Once upon a time", "", "A", "é and \u2603!", "  two  spaces\n"])
        {
            int[] tokens = stories.Tokenizer.Encode(Encoding.UTF8.GetBytes(text));
            var bytes = new List<byte>();
            for (int i = 0; i < tokens.Length; i++) bytes.AddRange(stories.Tokenizer.Decode(i > 0 ? tokens[i - 1] : -1, tokens[i]));
            Assert.Equal(text, Encoding.UTF8.GetString([.. bytes]));
            Assert.True(tokens.Length <= Encoding.UTF8.GetByteCount(text) + 2);
        }
    }

    [Slow]
    [Fact]
    public async Task The_program_generates_and_reports()
    {
        (int code, string text, string notes) = await Run("--prompt", "In the beginning God", "--tokens", "30", "--threads", "1");
        Assert.Equal(0, code);
        Assert.Equal("In the beginning God through the flesh, and the fl\n", text);
        Assert.Contains("prefill  20 tokens", notes, StringComparison.Ordinal);
        Assert.Contains("decode   29 tokens", notes, StringComparison.Ordinal);
        Assert.Contains("cache    4 of 4 blocks of 16 tokens", notes, StringComparison.Ordinal);

        string[] sampled = ["--prompt", "And", "--tokens", "40", "--temperature", "0.9", "--top-p", "0.9", "--cache", "fp16", "--seed"];
        string seven = (await Run([.. sampled, "7"])).Text, again = (await Run([.. sampled, "7"])).Text, eight = (await Run([.. sampled, "8"])).Text;
        Assert.Equal(seven, again);
        Assert.False(seven.Equals(eight, StringComparison.Ordinal));
    }

    [Slow]
    [Fact]
    public async Task A_greedy_text_beyond_the_trained_context_stops_at_its_loop()
    {
        (int code, string text, string notes) = await Run("--prompt", "In the beginning God", "--tokens", "100000");
        Assert.Equal((0, 514), (code, text.Length)); // 512 tokens are context, one shows the loop, and a line ends
        Assert.Contains("context  513 tokens; the model was trained on 512, so 99507 of the same were left out", notes, StringComparison.Ordinal);
        Assert.Contains("text     repeats itself", notes, StringComparison.Ordinal);

        (_, text, notes) = await Run("--prompt", "In the beginning God", "--tokens", "500", "--temperature", "0.8", "--seed", "1");
        Assert.Equal(521, Encoding.UTF8.GetByteCount(text));
        Assert.Contains("context  520 tokens; the model was trained on 512\n", notes.ReplaceLineEndings("\n"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_program_scores_a_file()
    {
        using var folder = new TemporaryFolder();
        string path = folder.Write("text.txt", "And God said, Let there be light: and there was light.\n"u8);
        (int code, string text, _) = await Run("--score", path);
        Assert.Equal(0, code);
        Assert.Matches("^[01]\\.[0-9]{6} nats per byte over 54 bytes", text);
        Assert.DoesNotContain("bits per byte", text, StringComparison.Ordinal);
        Assert.Matches("\\n[12]\\.[0-9]{6} bits per byte with a cache of int8, [12]\\.[0-9]{6} with one of fp32: [+-]0\\.0[0-9]{5}\\n", (await Run("--score", path, "--cache", "int8")).Text);
    }

    [Slow]
    [Fact]
    public async Task The_demonstrations_run()
    {
        (int code, string text, _) = await Run("--serve-demo", "--requests", "6");
        Assert.Equal(0, code);
        Assert.Contains("all 6 texts are equal", text, StringComparison.Ordinal);

        foreach (string cache in (string[])["int8", "fp8", "q8_0"])
        {
            (code, text, _) = await Run("--serve-demo", "--requests", "6", "--cache", cache);
            Assert.Equal(0, code);
            Assert.Contains($"a cache of {cache}, attention on the processor", text, StringComparison.Ordinal);
            Assert.Contains("all 6 texts are equal", text, StringComparison.Ordinal);
        }

        using var table = new StringWriter();
        ContextCostCommand.Run<float>(new LanguageModel(Models.Bible.Weights), longest: 512, table, TestContext.Current.CancellationToken);
        Assert.Contains("    512  ", table.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Wrong_options_and_files_are_named()
    {
        using var folder = new TemporaryFolder();
        string stub = folder.Write("stub.bin", new byte[40]);
        (string[] Arguments, string Message)[] cases =
        [
            (["--tokens", "0"], "--tokens 0"),
            (["--tokens", "1,000"], "--tokens '1,000' is not a whole number"),
            (["--temperature", "0,8"], "--temperature '0,8' is not a number, as 0.8"), // not 8
            (["--top-p", "0,9"], "--top-p '0,9' is not a number, as 0.8"),
            (["--seed", "x"], "--seed 'x' is not a whole number"),
            (["--threads", "1.5"], "--threads '1.5' is not a whole number"),
            (["--requests", "many"], "--requests 'many' is not a whole number"),
            (["--threads", "0"], "--threads 0"),
            (["--top-p", "0"], "--top-p 0"),
            (["--temperature", "-1"], "--temperature -1"),
            (["--requests", "0"], "--requests 0"),
            (["--cache", "fp4"], "--cache 'fp4' is not fp32, fp16, int8, fp8 or q8_0"),
            (["--backend", "abacus"], "--backend 'abacus' is not cpu or cuda"),
            (["--prompt", ""], "--prompt is empty"),
            (["--frobnicate"], "--frobnicate"),
            (["--model", "nowhere.safetensors"], "There is no model file nowhere.safetensors."),
            (["--model", "nowhere"], "There is no model file nowhere."),
            (["--model", stub], "stub.bin"),
            (["--model", Path.Combine(ReferenceData.Root, "samples", "data", "qkv-layer0.safetensors")], "'positional'"),
        ];
        foreach ((string[] arguments, string message) in cases)
        {
            (int code, _, string error) = await Run(arguments);
            Assert.Equal(2, code);
            Assert.Contains(message, error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_gpu_that_is_not_there_is_refused()
    {
        Assert.SkipWhen(CudaDevice.IsSupported, "This machine has a CUDA device.");
        (int code, string text, string error) = await Run("--backend", "cuda");
        Assert.Equal((2, "", $"--backend cuda is not available here: {CudaDevice.UnsupportedReason}\n"), (code, text, error));
    }

    [Fact]
    public async Task A_gpu_generates_the_same_text()
    {
        Assert.SkipUnless(CudaDevice.IsSupported, CudaDevice.UnsupportedReason ?? "");
        (int code, string text, string notes) = await Run("--prompt", "In the beginning God", "--tokens", "30", "--backend", "cuda");
        Assert.Equal((0, "In the beginning God through the flesh, and the fl\n"), (code, text));
        Assert.Contains($"device   {CudaDevice.Default}", notes, StringComparison.Ordinal);

        foreach (string cache in (string[])["int8", "fp8"])
        {
            (code, text, _) = await Run("--prompt", "In the beginning God", "--tokens", "30", "--cache", cache, "--backend", "cuda");
            Assert.Equal((0, (await Run("--prompt", "In the beginning God", "--tokens", "30", "--cache", cache)).Text), (code, text));
        }

        (code, _, notes) = await Run("--cache", "q8_0", "--backend", "cuda");
        Assert.Equal(2, code);
        Assert.Contains("holds float, Half, BFloat16, sbyte or Float8E4M3", notes, StringComparison.Ordinal);

        (code, text, _) = await Run("--serve-demo", "--requests", "6", "--backend", "cuda");
        Assert.Equal(0, code);
        Assert.Contains("all 6 texts are equal", text, StringComparison.Ordinal);
    }

    private static async Task<(int Code, string Text, string Notes)> Run(params string[] arguments)
    {
        using var text = new StringWriter { NewLine = "\n" };
        using var notes = new StringWriter { NewLine = "\n" };
        int code = await CommandLine.RunAsync(arguments, text, notes, TestContext.Current.CancellationToken).ConfigureAwait(false);
        return (code, text.ToString(), notes.ToString());
    }
}
