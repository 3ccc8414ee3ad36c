using System.Buffers;
using System.Text.Json;
using FusedAttention.Samples.Server.Engine;
using FusedAttention.Serving;

namespace FusedAttention.Samples.Server.Api;

/// <summary><c>POST /v1/completions</c> as the OpenAI API has it, streamed or whole, and <c>GET /v1/models</c>.</summary>
internal static class CompletionsEndpoint
{
    public static void MapCompletions(this WebApplication app)
    {
        app.MapPost("/v1/completions", AnswerAsync);
        app.MapGet("/v1/models", static (ModelEngine engine) => Results.Json(new ModelList([new(engine.Name)]), ApiJson.Default.ModelList));
    }

    private static async Task AnswerAsync(HttpContext http, ModelEngine engine)
    {
        try
        {
            CompletionBody body = await ReadBodyAsync(http).ConfigureAwait(false);
            CompletionCall call = CompletionCall.Read(body, engine.Tokenizer, engine.Vocabulary);
            RequestRefusal refusal = engine.TryStart(call.Prompt, call.Options, call.Sampling, call.Choices, out CompletionGroup group);
            if (refusal != RequestRefusal.None) throw ApiException.Of(refusal);
            try
            {
                var answer = new CompletionAnswer(engine, call, group);
                if (call.IsStreamed) await StreamAsync(http, answer).ConfigureAwait(false);
                else await WriteAsync(http, answer).ConfigureAwait(false);
            }
            finally
            {
                // Whether the caller has gone or all texts have ended: nothing of the call is left behind.
                engine.Cancel(group);
            }
        }
        catch (ApiException e)
        {
            await WriteErrorAsync(http, e).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            // Nobody listens any more.
        }
    }

    private static async Task<CompletionBody> ReadBodyAsync(HttpContext http)
    {
        try
        {
            return await http.Request.ReadFromJsonAsync(ApiJson.Default.CompletionBody, http.RequestAborted).ConfigureAwait(false)
                ?? throw new ApiException(StatusCodes.Status400BadRequest, null, "The body is null.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or BadHttpRequestException)
        {
            throw new ApiException(StatusCodes.Status400BadRequest, null, $"The body is no JSON of a completion: {e.Message}");
        }
    }

    /// <summary>Server-sent events, one for each piece of text, flushed as it comes.</summary>
    private static async Task StreamAsync(HttpContext http, CompletionAnswer answer)
    {
        http.Response.ContentType = "text/event-stream";
        http.Response.Headers.CacheControl = "no-cache";
        await http.Response.StartAsync(http.RequestAborted).ConfigureAwait(false);
        await foreach (CompletionReply piece in answer.ReadAsync(http.RequestAborted).ConfigureAwait(false))
        {
            await WriteEventAsync(http, JsonSerializer.SerializeToUtf8Bytes(piece, ApiJson.Default.CompletionReply)).ConfigureAwait(false);
        }

        await WriteEventAsync(http, "[DONE]"u8.ToArray()).ConfigureAwait(false);
    }

    private static async Task WriteEventAsync(HttpContext http, byte[] data)
    {
        http.Response.BodyWriter.Write("data: "u8);
        http.Response.BodyWriter.Write(data);
        http.Response.BodyWriter.Write("\n\n"u8);
        await http.Response.BodyWriter.FlushAsync(http.RequestAborted).ConfigureAwait(false);
    }

    private static async Task WriteAsync(HttpContext http, CompletionAnswer answer)
    {
        CompletionReply whole = await answer.ReadWholeAsync(http.RequestAborted).ConfigureAwait(false);
        await http.Response.WriteAsJsonAsync(whole, ApiJson.Default.CompletionReply, cancellationToken: http.RequestAborted).ConfigureAwait(false);
    }

    private static async Task WriteErrorAsync(HttpContext http, ApiException error)
    {
        http.Response.StatusCode = error.Status;
        if (error.Status == StatusCodes.Status429TooManyRequests) http.Response.Headers.RetryAfter = "1";
        var reply = new ErrorReply(new(error.Message, error.Status == StatusCodes.Status400BadRequest ? "invalid_request_error" : "server_error", error.Parameter));
        await http.Response.WriteAsJsonAsync(reply, ApiJson.Default.ErrorReply, cancellationToken: http.RequestAborted).ConfigureAwait(false);
    }
}
