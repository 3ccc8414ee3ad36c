namespace FusedAttention.Benchmarks.DropIn;

/// <summary>Attention as engines begin: a loop over heads and tokens, all scores of a row, a softmax, a weighted sum.</summary>
internal static class NaiveAttention
{
    public static void Forward(EngineCall call, float[] output)
    {
        float[] scores = new float[call.CachedTokens];
        for (int head = 0; head < EngineCall.QueryHeads; head++)
        {
            ReadOnlySpan<float> keys = call.HeadOf(call.Key, head), values = call.HeadOf(call.Value, head);
            for (int token = 0; token < call.NewTokens; token++)
            {
                int row = ((token * EngineCall.QueryHeads) + head) * EngineCall.Dim;
                Row(call.Query.AsSpan(row, EngineCall.Dim), keys, values, scores.AsSpan(0, call.Visible(token)), call.Scale, output.AsSpan(row, EngineCall.Dim));
            }
        }
    }

    private static void Row(ReadOnlySpan<float> query, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, Span<float> scores, float scale, Span<float> output)
    {
        float max = float.NegativeInfinity;
        for (int j = 0; j < scores.Length; j++)
        {
            ReadOnlySpan<float> key = keys.Slice(j * query.Length, query.Length);
            float sum = 0;
            for (int d = 0; d < query.Length; d++) sum += query[d] * key[d];
            scores[j] = sum * scale;
            max = MathF.Max(max, scores[j]);
        }

        float total = 0;
        for (int j = 0; j < scores.Length; j++) total += scores[j] = MathF.Exp(scores[j] - max);
        output.Clear();
        for (int j = 0; j < scores.Length; j++)
        {
            ReadOnlySpan<float> value = values.Slice(j * output.Length, output.Length);
            float weight = scores[j] / total;
            for (int d = 0; d < output.Length; d++) output[d] += weight * value[d];
        }
    }
}
