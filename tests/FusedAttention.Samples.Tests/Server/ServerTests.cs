using System.Net;
using System.Text;
using System.Text.Json;
using Xunit;

namespace FusedAttention.Samples.Tests.Server;

/// <summary>The server over real connections: right texts under load, in a pool that is too small, and with clients that leave.</summary>
public sealed class ServerTests
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_answers_as_the_model_does_alone()
    {
        await using RunningServer server = await RunningServer.StartAsync("Blocks=128");
        string text = RunningServer.OneByOne(("In the beginning God", 24)).Single();

        JsonElement whole = await server.CompleteAsync(new { prompt = "In the beginning God", max_tokens = 24, temperature = 0 });
        JsonElement choice = whole.GetProperty("choices")[0];
        Assert.Equal(("text_completion", text, "length"), (whole.GetProperty("object").GetString(), choice.GetProperty("text").GetString(), choice.GetProperty("finish_reason").GetString()));
        Assert.Equal((20, 24, 44), (Usage("prompt_tokens"), Usage("completion_tokens"), Usage("total_tokens")));
        Assert.Equal((text, "length"), await server.StreamAsync(new { prompt = "In the beginning God", max_tokens = 24, temperature = 0, stream = true }));
        int[] tokens = [.. Encoding.UTF8.GetBytes("In the beginning God").Select(static b => (int)b)];
        JsonElement byTokens = await server.CompleteAsync(new { prompt = tokens, max_tokens = 24, temperature = 0 });
        Assert.Equal(text, byTokens.GetProperty("choices")[0].GetProperty("text").GetString());
        Assert.Equal(19, byTokens.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32());

        string stop = text[8..11];
        Assert.Equal((text[..text.IndexOf(stop, StringComparison.Ordinal)], "stop"), await server.StreamAsync(new { prompt = "In the beginning God", max_tokens = 24, temperature = 0, stream = true, stop }));
        await server.AssertIdleAsync();

        int Usage(string name) => whole.GetProperty("usage").GetProperty(name).GetInt32();
    }

    [Fact]
    public async Task Its_cache_may_be_of_8_bits()
    {
        await using RunningServer server = await RunningServer.StartAsync("Blocks=128", "Cache=int8");
        const string Prompt = "And the king said unto";
        JsonElement reply = await server.CompleteAsync(new { prompt = Prompt, max_tokens = 24, temperature = 0 });
        Assert.Equal(RunningServer.OneByOne<sbyte>((Prompt, 24)).Single(), reply.GetProperty("choices")[0].GetProperty("text").GetString());
        await server.AssertIdleAsync();
        ArgumentException refused = await Assert.ThrowsAsync<ArgumentException>(() => RunningServer.StartAsync("Cache=int4"));
        Assert.Contains("'int4' is not fp32, fp16, int8, fp8 or q8_0", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Its_cache_may_be_on_a_gpu()
    {
        Assert.Contains("Server:Backend 'abacus' is not cpu or cuda", (await Assert.ThrowsAsync<ArgumentException>(() => RunningServer.StartAsync("Backend=abacus"))).Message, StringComparison.Ordinal);
        if (!CudaDevice.IsSupported)
        {
            Assert.Contains("Server:Backend cuda is not available here", (await Assert.ThrowsAsync<ArgumentException>(() => RunningServer.StartAsync("Backend=cuda"))).Message, StringComparison.Ordinal);
            return;
        }

        const string Prompt = "And the king said unto";
        await using RunningServer server = await RunningServer.StartAsync("Blocks=128", "Cache=int8", "Backend=cuda");
        JsonElement reply = await server.CompleteAsync(new { prompt = Prompt, max_tokens = 24, temperature = 0 });
        Assert.Equal(RunningServer.OneByOne<sbyte>((Prompt, 24)).Single(), reply.GetProperty("choices")[0].GetProperty("text").GetString());
        await server.AssertIdleAsync();
    }

    [Fact]
    public async Task Several_texts_of_a_prompt_follow_from_their_seed()
    {
        await using RunningServer server = await RunningServer.StartAsync("Blocks=128");
        object call = new { prompt = "And the king said unto", max_tokens = 12, n = 4, temperature = 0.9, top_p = 0.95, seed = 7 };
        string[] first = Texts(await server.CompleteAsync(call)), again = Texts(await server.CompleteAsync(call));
        Assert.Equal(4, first.Distinct(StringComparer.Ordinal).Count());
        Assert.Equal(first, again);
        await server.AssertIdleAsync();

        static string[] Texts(JsonElement reply) => [.. reply.GetProperty("choices").EnumerateArray().OrderBy(static c => c.GetProperty("index").GetInt32()).Select(static c => c.GetProperty("text").GetString()!)];
    }

    /// <summary>As many streams at a time as a server is asked for; the pool holds a tenth of them, so requests wait and are put back; some clients leave in the middle.</summary>
    [Slow]
    [Fact]
    public async Task It_holds_256_streams_out_of_a_pool_that_is_too_small()
    {
        const int Streams = 256;
        await using RunningServer server = await RunningServer.StartAsync("Blocks=500", "BlockSize=1");
        (string Prompt, int Tokens)[] kinds = [.. Enumerable.Range(0, 8).Select(static i => ($"{"And it came"[..(i + 3)]} {i}", 5 + (i % 4)))];
        string[] texts = RunningServer.OneByOne(kinds);
        Task<(string Text, string? Reason)>[] streams = [.. Enumerable.Range(0, Streams).Select(i =>
        {
            (string prompt, int tokens) = kinds[i % kinds.Length];
            return server.StreamAsync(new { prompt, max_tokens = tokens, temperature = 0, stream = true, cache_salt = $"{i % 5}" }, leaveAfter: i % 9 == 8 ? 2 : 0);
        })];
        (string Text, string? Reason)[] got = await Task.WhenAll(streams);
        for (int i = 0; i < Streams; i++)
        {
            if (i % 9 == 8) Assert.StartsWith(got[i].Text, texts[i % kinds.Length], StringComparison.Ordinal);
            else Assert.Equal((texts[i % kinds.Length], "length"), got[i]);
        }

        await server.AssertIdleAsync();
        Assert.Equal(Streams, await server.MetricAsync("server_requests_ended"));
        Assert.Equal(0, await server.MetricAsync("server_requests_refused"));
        Assert.True(await server.MetricAsync("server_tokens_shared") > 0);
        Assert.True(await server.MetricAsync("server_requests_preempted") > 0, "The pool was never full.");
        Assert.InRange(await server.MetricAsync("server_time_to_first_token_count"), Streams * 8 / 9, Streams);
    }

    [Fact]
    public async Task What_it_cannot_serve_is_refused_with_a_reason()
    {
        await using RunningServer server = await RunningServer.StartAsync("Blocks=8", "MaxWaitingRequests=2", "MaxRunningRequests=1");
        foreach ((object body, string parameter) in ((object, string)[])
        [
            (new { max_tokens = 3 }, "prompt"), (new { prompt = "" }, "prompt"), (new { prompt = (int[])[1, 256] }, "prompt"), (new { prompt = (string[])["a", "b"] }, "prompt"),
            (new { prompt = "a", max_tokens = -1 }, "max_tokens"), (new { prompt = "a", max_tokens = 1000 }, "max_tokens"), (new { prompt = "a", n = 0 }, "n"), (new { prompt = "a", temperature = -1 }, "temperature"),
            (new { prompt = "a", top_p = 0 }, "top_p"), (new { prompt = "a", stop = 5 }, "stop"), (new { prompt = "a", stop = "" }, "stop"),
        ])
        {
            JsonElement error = (await server.CompleteAsync(body, HttpStatusCode.BadRequest)).GetProperty("error");
            Assert.Equal((parameter, "invalid_request_error"), (error.GetProperty("param").GetString(), error.GetProperty("type").GetString()));
        }

        using var broken = new StringContent("{\"prompt\": ", Encoding.UTF8, "application/json");
        using HttpResponseMessage refused = await server.SendAsync(broken, HttpCompletionOption.ResponseContentRead, Stop);
        Assert.Equal(HttpStatusCode.BadRequest, refused.StatusCode);

        // One runs and two wait at most, so of four texts of one call the last is too many, and the others do not stay.
        using HttpResponseMessage full = await server.PostAsync(new { prompt = "And", max_tokens = 100, n = 4 });
        Assert.Equal((HttpStatusCode.TooManyRequests, TimeSpan.FromSeconds(1)), (full.StatusCode, full.Headers.RetryAfter?.Delta));
        await server.AssertIdleAsync();
        Assert.Equal(1 + 1, await server.MetricAsync("server_requests_refused"));
        Assert.Equal("Healthy", await server.Client.GetStringAsync(new Uri("/health", UriKind.Relative), Stop));
        Assert.Contains("kjv-alibi-6m", await server.Client.GetStringAsync(new Uri("/v1/models", UriKind.Relative), Stop), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Stopping_lets_texts_end_and_takes_no_more()
    {
        await using RunningServer server = await RunningServer.StartAsync("Blocks=128");
        string text = RunningServer.OneByOne(("In the beginning God", 60)).Single();
        using HttpResponseMessage response = await server.PostAsync(new { prompt = "In the beginning God", max_tokens = 60, temperature = 0, stream = true }, HttpCompletionOption.ResponseHeadersRead);
        Task stopped = server.StopAsync();
        string events = await response.Content.ReadAsStringAsync(Stop);
        await stopped;
        string got = string.Concat(events.Split('\n').Where(static line => line.StartsWith("data: {", StringComparison.Ordinal))
            .Select(static line => JsonDocument.Parse(line[6..]).RootElement.GetProperty("choices")[0].GetProperty("text").GetString()));
        Assert.Equal(text, got);
        Assert.EndsWith("data: [DONE]\n\n", events, StringComparison.Ordinal);
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => server.PostAsync(new { prompt = "a" }));
    }
}
