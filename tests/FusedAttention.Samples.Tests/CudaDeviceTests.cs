using System.Text;
using FusedAttention.Cuda.Emulation.Runtime;
using FusedAttention.Samples.TextGeneration;
using FusedAttention.Samples.TextGeneration.Commands;
using FusedAttention.Samples.TextGeneration.Devices;
using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Samples.Tests;

/// <summary>The sample on an NVIDIA GPU, which the emulator stands in for: the processor's texts with every type of cache that the GPU has.</summary>
[Slow]
public sealed class CudaDeviceTests
{
    [Fact]
    public void Texts_are_those_of_the_processor()
    {
        AssertTexts<float>();
        AssertTexts<Half>();
        AssertTexts<sbyte>();
        AssertTexts<Float8E4M3>();
    }

    /// <summary>The cache's rounding is in the losses, and it is the processor's: attention differs in the last bits.</summary>
    [Fact]
    public void Losses_are_those_of_the_processor()
    {
        using IAttentionDevice device = Emulated();
        LanguageModel gpu = new(Models.Bible.Weights, device: device), cpu = new(Models.Bible.Weights);
        int[] tokens = Models.Bible.Tokenizer.Encode("And God said, Let there be light: and there was light."u8.ToArray());
        AssertLosses<sbyte>();
        AssertLosses<Float8E4M3>();

        void AssertLosses<T>()
            where T : unmanaged
        {
            double[] expected = ScoreCommand.Losses<T>(cpu, tokens, TestContext.Current.CancellationToken), exact = ScoreCommand.Losses<float>(cpu, tokens, TestContext.Current.CancellationToken);
            double[] actual = ScoreCommand.Losses<T>(gpu, tokens, TestContext.Current.CancellationToken);
            double difference = expected.Zip(actual, static (a, b) => Math.Abs(a - b)).Max(), ofTheCache = expected.Zip(exact, static (a, b) => Math.Abs(a - b)).Max();
            Assert.True(difference * 10 < ofTheCache, $"{typeof(T).Name}: a loss is {difference:E2} off the processor's, where the cache costs {ofTheCache:E2}.");
        }
    }

    [Fact]
    public void Blocks_with_scales_of_their_own_are_refused()
    {
        using IAttentionDevice device = Emulated();
        var model = new LanguageModel(Models.Bible.Weights, device: device);
        Assert.Contains("holds float, Half, BFloat16, sbyte or Float8E4M3", Assert.Throws<NotSupportedException>(() => model.CreateCache("q8_0", 8, 16)).Message, StringComparison.Ordinal);
    }

    private static CudaAttentionDevice Emulated() => new(new CudaDevice(new EmulatedRuntime()));

    private static void AssertTexts<T>()
        where T : unmanaged
    {
        using IAttentionDevice device = Emulated();
        string[] expected = Texts<T>(new LanguageModel(Models.Bible.Weights)), actual = Texts<T>(new LanguageModel(Models.Bible.Weights, device: device));
        Assert.Equal(expected, actual);
    }

    /// <summary>Two requests at a time, which share blocks.</summary>
    private static string[] Texts<T>(LanguageModel model)
        where T : unmanaged
    {
        using var engine = new Engine<T>(model, blocks: 12, blockSize: 8);
        var sampler = Sampler.Greedy();
        GenerationRequest[] requests = [.. ((string[])["In the beginning God", "In the beginning was"]).Select(
            prompt => engine.Add(Models.Bible.Tokenizer.Encode(Encoding.UTF8.GetBytes(prompt)), 12, (_, logits) => sampler.Choose(logits)))];
        engine.RunToEnd(TestContext.Current.CancellationToken);
        return [.. requests.Select(static request => Encoding.UTF8.GetString([.. request.Tokens.ToArray().Select(static token => (byte)token)]))];
    }
}
