using System.Runtime.CompilerServices;
using System.Text;
using FusedAttention.Samples.Server.Engine;
using FusedAttention.Serving;

namespace FusedAttention.Samples.Server.Api;

/// <summary>The texts of a call, made of its tokens as they come.</summary>
internal sealed class CompletionAnswer
{
    private readonly ModelEngine _engine;
    private readonly CompletionCall _call;
    private readonly CompletionGroup _group;
    private readonly TextAssembler[] _texts;
    private readonly string _id = $"cmpl-{Guid.NewGuid():N}";
    private readonly long _created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    private int _completionTokens;

    public CompletionAnswer(ModelEngine engine, CompletionCall call, CompletionGroup group)
    {
        _engine = engine;
        _call = call;
        _group = group;
        _texts = [.. group.Requests.Select(_ => new TextAssembler(engine.Tokenizer, engine.Tokenizer.EndToken ?? -1, call.Stops))];
    }

    /// <summary>Piece after piece; the last one of each text says why it has ended.</summary>
    public async IAsyncEnumerable<CompletionReply> ReadAsync([EnumeratorCancellation] CancellationToken cancellation)
    {
        await foreach (CompletionChoice piece in ReadPiecesAsync(cancellation).ConfigureAwait(false)) yield return Reply([piece]);
        if (_call.WantsUsage) yield return Reply([], Usage());
    }

    public async Task<CompletionReply> ReadWholeAsync(CancellationToken cancellation)
    {
        StringBuilder[] texts = [.. _texts.Select(static _ => new StringBuilder())];
        string?[] reasons = new string?[texts.Length];
        await foreach (CompletionChoice piece in ReadPiecesAsync(cancellation).ConfigureAwait(false))
        {
            texts[piece.Index].Append(piece.Text);
            reasons[piece.Index] ??= piece.FinishReason;
        }

        return Reply([.. texts.Select((text, index) => new CompletionChoice(index, text.ToString(), reasons[index]))], Usage());
    }

    private async IAsyncEnumerable<CompletionChoice> ReadPiecesAsync([EnumeratorCancellation] CancellationToken cancellation)
    {
        bool[] hasEnded = new bool[_texts.Length];
        for (int open = _texts.Length; open > 0;)
        {
            CompletionEvent what = await _group.Events.ReadAsync(cancellation).ConfigureAwait(false);
            TextAssembler text = _texts[what.Choice];
            if (hasEnded[what.Choice]) continue;
            string? reason = null;
            string piece;
            if (what.End == FinishReason.None)
            {
                _completionTokens++;
                piece = text.Add(what.Token);
                if (text.HasStopped)
                {
                    reason = "stop";
                    _engine.Cancel(_group.Requests[what.Choice]);
                }
                else if (piece.Length == 0)
                {
                    continue;
                }
            }
            else
            {
                piece = text.Finish();
                reason = what.End switch
                {
                    FinishReason.Stop => "stop",
                    FinishReason.Length => "length",
                    FinishReason.DeadlineExceeded => "timeout",
                    _ => "cancelled",
                };
            }

            if (reason is not null)
            {
                hasEnded[what.Choice] = true;
                open--;
            }

            yield return new(what.Choice, piece, reason);
        }
    }

    private CompletionReply Reply(IReadOnlyList<CompletionChoice> choices, CompletionUsage? usage = null) => new(_id, _created, _engine.Name, choices, usage);

    private CompletionUsage Usage() => new(_call.Prompt.Length, _completionTokens, new(_group.Requests.Sum(static request => request.SharedTokens)));
}
