using System.Text;
using System.Text.Json;
using FusedAttention.Checking.Formats;
using FusedAttention.Samples.TextGeneration;
using FusedAttention.Samples.TextGeneration.Commands;
using FusedAttention.Samples.TextGeneration.Loading;
using FusedAttention.Samples.TextGeneration.Model;
using Xunit;

namespace FusedAttention.Samples.Tests;

/// <summary>The models generate what they generate in double precision elsewhere.</summary>
[Slow]
public sealed class ReferenceTextTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Greedy_text_and_logits_with_a_float_cache(bool rowInvariant) => AssertReference<float>(rowInvariant, 1e-3);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Greedy_text_and_logits_with_a_half_cache(bool rowInvariant) => AssertReference<Half>(rowInvariant, 2e-2);

    [Fact]
    public void Held_out_loss_within_and_past_the_trained_context_with_a_float_cache() => AssertLoss<float>();

    [Fact]
    public void Held_out_loss_within_and_past_the_trained_context_with_a_half_cache() => AssertLoss<Half>();

    /// <summary>What quantized keys and values cost on the held-out text, in bits a byte against the float cache.</summary>
    [Theory]
    [InlineData("int8", 0.002)]
    [InlineData("fp8", 0.01)]
    [InlineData("q8_0", 0.002)]
    public void Held_out_bits_per_byte_with_caches_of_8_bits(string cache, double most)
    {
        int[] tokens = Models.Bible.Tokenizer.Encode(File.ReadAllBytes(Models.BibleFile("heldout.txt")));
        var model = new LanguageModel(Models.Bible.Weights);
        CancellationToken stop = TestContext.Current.CancellationToken;
        double[] losses = cache switch
        {
            "int8" => ScoreCommand.Losses<sbyte>(model, tokens, stop),
            "fp8" => ScoreCommand.Losses<Float8E4M3>(model, tokens, stop),
            _ => ScoreCommand.Losses<Q8Block>(model, tokens, stop),
        };
        double difference = (losses.Average() - ScoreCommand.Losses<float>(model, tokens, stop).Average()) / Math.Log(2);
        output.WriteLine($"{difference:+0.000000;-0.000000} bits per byte");
        Assert.NotEqual(0, difference); // the cache is what it says it is
        Assert.InRange(difference, -most, most);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("bos_only")]
    public void Stories_are_told_token_for_token(string? part)
    {
        LoadedModel stories = Models.Stories;
        JsonElement reference = Models.StoriesReference();
        if (part is not null) reference = reference.GetProperty(part);
        int[] prompt = reference.Integers("prompt_token_ids"), expected = reference.Integers("generated_token_ids");
        if (part is null) Assert.Equal(prompt, stories.Tokenizer.Encode(Encoding.UTF8.GetBytes(reference.GetProperty("prompt").GetString()!)));

        using var engine = new Engine<float>(new LanguageModel(stories.Weights), blocks: 60, blockSize: 5);
        var sampler = Sampler.Greedy();
        var request = engine.Add(prompt, expected.Length, (_, logits) => sampler.Choose(logits));
        engine.RunToEnd(TestContext.Current.CancellationToken);
        Assert.Equal(expected, request.GeneratedTokens.ToArray());

        var bytes = new List<byte>();
        int previous = -1;
        foreach (int token in request.Tokens)
        {
            bytes.AddRange(stories.Tokenizer.Decode(previous, token));
            previous = token;
        }

        Assert.Equal(reference.GetProperty("text").GetString()!, Encoding.UTF8.GetString([.. bytes]));
    }

    /// <summary>The rotary embedding of the library in a trained model, queries in place and keys on their way into the cache: every logit of 200 tokens, beside a forward pass in double precision.</summary>
    [Fact]
    public void Stories_have_the_logits_of_double_precision()
    {
        LoadedModel stories = Models.Stories;
        using TensorFile file = TensorFile.Open(Models.StoriesLogits);
        ReadOnlySpan<int> tokens = file.Read("tokens").Elements<int>();
        ReadOnlySpan<float> expected = file.Read("logits").Elements<float>();
        var model = new LanguageModel(stories.Weights);
        using KeyValueCache cache = model.CreateCache<float>(blocks: 20, blockSize: 16);
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();
        double worst = 0;
        for (int done = 0; done < tokens.Length; done += batch.TotalQueries)
        {
            int count = Math.Min(done == 0 ? 130 : 33, tokens.Length - done);
            cache.Extend(sequence, count);
            batch.Clear();
            batch.Add(sequence, count);
            ReadOnlySpan<float> logits = model.Forward(cache, batch, tokens.Slice(done, count), [.. Enumerable.Range(0, count)]);
            for (int i = 0; i < logits.Length; i++) worst = Math.Max(worst, Math.Abs(logits[i] - (double)expected[(done * model.Config.Vocabulary) + i]));
        }

        output.WriteLine($"largest error of a logit: {worst:E2}");
        Assert.True(worst <= 5e-5, $"A logit is {worst} off; 5e-5 is allowed.");
    }

    private void AssertReference<T>(bool rowInvariant, double tolerance)
        where T : unmanaged
    {
        JsonElement reference = Models.BibleReference();
        int[] prompt = Models.Bible.Tokenizer.Encode(Encoding.UTF8.GetBytes(reference.GetProperty("prompt").GetString()!));
        int[] expected = reference.Integers("greedy_bytes");
        double[][] top = [.. reference.GetProperty("top5_logits").EnumerateArray().Select(static step => step.EnumerateArray().Select(static logit => logit.GetDouble()).ToArray())];
        Assert.Equal((200, 200), (expected.Length, top.Length));

        using var engine = new Engine<T>(new LanguageModel(Models.Bible.Weights, rowInvariant: rowInvariant), blocks: 14, blockSize: 16);
        var sampler = Sampler.Greedy();
        double worst = 0;
        int step = 0;
        var request = engine.Add(prompt, expected.Length, (_, logits) =>
        {
            float[] largest = [.. logits.ToArray().OrderDescending().Take(5)];
            for (int i = 0; i < 5; i++) worst = Math.Max(worst, Math.Abs(largest[i] - top[step][i]));
            step++;
            return sampler.Choose(logits);
        });
        engine.RunToEnd(TestContext.Current.CancellationToken);
        output.WriteLine($"largest error of a logit: {worst:E2}");
        Assert.Equal(expected, request.GeneratedTokens.ToArray());
        Assert.True(worst <= tolerance, $"A logit is {worst} off; {tolerance} is allowed.");
    }

    private void AssertLoss<T>()
        where T : unmanaged
    {
        JsonElement reference = Models.BibleReference().GetProperty("heldout_nats_per_byte");
        int[] tokens = Models.Bible.Tokenizer.Encode(File.ReadAllBytes(Models.BibleFile("heldout.txt")));
        Assert.Equal(4096, tokens.Length);
        double[] losses = ScoreCommand.Losses<T>(new LanguageModel(Models.Bible.Weights), tokens, TestContext.Current.CancellationToken);
        double first = losses.Take(512).Average(), rest = losses.Skip(512).Average();
        output.WriteLine($"{first:0.000000} and {rest:0.000000} nats per byte");
        Assert.Equal(reference.GetProperty("first_512").GetDouble(), first, 5e-5);
        Assert.Equal(reference.GetProperty("from_512_to_4095").GetDouble(), rest, 5e-5);
    }
}
