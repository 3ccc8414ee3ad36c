using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using FusedAttention.Samples.Server;
using FusedAttention.Samples.TextGeneration;
using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Serving;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Xunit;

namespace FusedAttention.Samples.Tests.Server;

/// <summary>The server on a port of its own, and a client.</summary>
internal sealed class RunningServer : IAsyncDisposable
{
    private static readonly Lazy<LanguageModel> Alone = new(static () => new(Models.Bible.Weights, rowInvariant: true));
    private readonly WebApplication _app;

    private RunningServer(WebApplication app)
    {
        _app = app;
        string address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        Client = new(new SocketsHttpHandler { MaxConnectionsPerServer = 1024 }) { BaseAddress = new(address), Timeout = TimeSpan.FromMinutes(3) };
    }

    public HttpClient Client { get; }

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public static async Task<RunningServer> StartAsync(params string[] options)
    {
        WebApplication app = ServerHost.Create(["--urls=http://127.0.0.1:0", "--Logging:LogLevel:Default=Critical", .. options.Select(static option => $"--Server:{option}")]);
        await app.StartAsync(Stop).ConfigureAwait(false);
        return new(app);
    }

    /// <summary>What the model says when nobody else asks: one request, one token a step.</summary>
    public static string[] OneByOne(params (string Prompt, int Tokens)[] calls) => OneByOne<float>(calls);

    /// <summary>The same with a cache of another type.</summary>
    public static string[] OneByOne<T>(params (string Prompt, int Tokens)[] calls)
        where T : unmanaged
    {
        using var engine = new Engine<T>(Alone.Value, blocks: 64, blockSize: 16, new() { MaxRunningRequests = 1, SharePrefixes = false });
        return [.. calls.Select(call =>
        {
            Sampler greedy = Sampler.Greedy();
            GenerationRequest request = engine.Add(Models.Bible.Tokenizer.Encode(Encoding.UTF8.GetBytes(call.Prompt)), call.Tokens, (_, logits) => greedy.Choose(logits));
            engine.RunToEnd();
            return Encoding.UTF8.GetString([.. request.GeneratedTokens.ToArray().Select(static token => (byte)token)]);
        })];
    }

    public Task<HttpResponseMessage> PostAsync(object body, HttpCompletionOption completion = HttpCompletionOption.ResponseContentRead) => SendAsync(JsonContent.Create(body), completion, Stop);

    public async Task<HttpResponseMessage> SendAsync(HttpContent content, HttpCompletionOption completion, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions") { Content = content };
        return await Client.SendAsync(request, completion, cancellation).ConfigureAwait(false);
    }

    /// <summary>The text of a call that is answered as a whole.</summary>
    public async Task<JsonElement> CompleteAsync(object body, HttpStatusCode expected = HttpStatusCode.OK)
    {
        using HttpResponseMessage response = await PostAsync(body).ConfigureAwait(false);
        Assert.Equal(expected, response.StatusCode);
        return await response.Content.ReadFromJsonAsync<JsonElement>(Stop).ConfigureAwait(false);
    }

    /// <summary>The text of a streamed call, and why it ended.</summary>
    /// <param name="body">The call.</param>
    /// <param name="leaveAfter">Events after which the client is gone; 0 for never.</param>
    public async Task<(string Text, string? Reason)> StreamAsync(object body, int leaveAfter = 0)
    {
        using var leaving = CancellationTokenSource.CreateLinkedTokenSource(Stop);
        using HttpResponseMessage response = await SendAsync(JsonContent.Create(body), HttpCompletionOption.ResponseHeadersRead, leaving.Token).ConfigureAwait(false);
        Assert.Equal((HttpStatusCode.OK, "text/event-stream"), (response.StatusCode, response.Content.Headers.ContentType?.MediaType));
        using var lines = new StreamReader(await response.Content.ReadAsStreamAsync(leaving.Token).ConfigureAwait(false));
        var text = new StringBuilder();
        string? reason = null;
        for (int events = 1; await lines.ReadLineAsync(leaving.Token).ConfigureAwait(false) is { } line; events++)
        {
            if (line.Length == 0) continue;
            Assert.StartsWith("data: ", line, StringComparison.Ordinal);
            if (line is "data: [DONE]") return (text.ToString(), reason);
            JsonElement choice = JsonDocument.Parse(line[6..]).RootElement.GetProperty("choices")[0];
            text.Append(choice.GetProperty("text").GetString());
            reason = choice.GetProperty("finish_reason").GetString();
            if (events == leaveAfter)
            {
                await leaving.CancelAsync().ConfigureAwait(false);
                return (text.ToString(), null);
            }
        }

        Assert.Fail($"The stream has no end, only: {text}");
        return default;
    }

    public async Task<double> MetricAsync(string name)
    {
        string[] lines = (await Client.GetStringAsync(new Uri("/metrics", UriKind.Relative), Stop).ConfigureAwait(false)).Split('\n');
        return lines.Where(line => line.StartsWith(name, StringComparison.Ordinal)).Sum(static line => double.Parse(line[(line.LastIndexOf(' ') + 1)..]));
    }

    /// <summary>Waits until nothing runs and no block is used.</summary>
    public async Task AssertIdleAsync()
    {
        long end = Environment.TickCount64 + 30_000;
        while (await MetricAsync("server_requests_running").ConfigureAwait(false) + await MetricAsync("server_requests_waiting").ConfigureAwait(false) + await MetricAsync("server_cache_blocks_used").ConfigureAwait(false) > 0)
        {
            Assert.True(Environment.TickCount64 < end, "Requests or blocks are left behind.");
            await Task.Delay(10, Stop).ConfigureAwait(false);
        }
    }

    public Task StopAsync() => _app.StopAsync(Stop);

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _app.DisposeAsync().ConfigureAwait(false);
    }
}
