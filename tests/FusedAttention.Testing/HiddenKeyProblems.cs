namespace FusedAttention.Testing;

/// <summary>Problems of one sequence in which keys are hidden from some rows, one way each: what backends are asked about special values by.</summary>
internal static class HiddenKeyProblems
{
    /// <summary>The problem with other numbers in some places of its values, or zeros in their stead.</summary>
    public static Problem WithValues(Problem problem, (int Key, int Column, float Value)[] specials, bool isZero)
    {
        float[] values = [.. problem.Value[0]];
        foreach ((int key, int column, float value) in specials) values[(key * problem.ValueDim) + column] = isZero ? 0 : value;
        return problem with { Value = [values] };
    }

    /// <summary>One sequence, with three query heads on one key/value head.</summary>
    public static Problem Of(int queries, int keys, AttentionElementType type, string hiding)
    {
        var generator = new ProblemGenerator(queries + keys);
        Problem problem = generator.Fill(new Problem
        {
            Name = hiding,
            Form = hiding switch { "paged" => CallForm.Paged, "packed" => CallForm.Packed, _ => CallForm.Dense },
            QueryType = type,
            KeyValueType = type,
            Heads = 3,
            KeyValueHeads = 1,
            KeyDim = 64,
            ValueDim = 64,
            BlockSize = 16,
            QueryLengths = [queries],
            KeyLengths = [keys],
            KeyCapacity = keys,
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions
            {
                Mask = hiding switch { "causal" or "paged" or "packed" => AttentionMask.Causal, "window" => AttentionMask.Window(keys / 3, keys / 4), _ => AttentionMask.Full },
                AlibiSlopes = hiding is "packed" ? AlibiSlopes.ForHeads(3) : default,
            },
        });
        bool[] mask = [.. Enumerable.Range(0, queries * keys).Select(n => ((n / keys) + (n % keys)) % 3 != 0)];
        float[] bias = [.. generator.Numbers(queries * keys, 1, AttentionElementType.BFloat16).Select((x, n) => mask[n] ? x : float.NegativeInfinity)];
        return hiding switch
        {
            "mask" => problem with { Mask = new(mask, 1, 1, queries, keys) },
            "bias" => problem with { Bias = new(bias, 1, 1, queries, keys) },
            "bias of 16 bits" => problem with { Bias = new(bias, 1, 1, queries, keys), BiasType = AttentionElementType.BFloat16 },
            _ => problem,
        };
    }

    /// <summary>150 keys, of which a score function excludes four by their scores, and places of their values: a query's first element is 8, and theirs the most negative.</summary>
    public static (Problem Problem, (int Key, int Column, float Value)[] Specials) ExcludedByScore(int queries)
    {
        const int Keys = 150;
        Problem problem = Of(queries, Keys, AttentionElementType.Float16, "nothing");
        problem = problem with { Options = problem.Options with { ScoreFunction = ScoreFunction.Of(new OnlyAbove(-1000)) } };
        foreach (float[] query in problem.Query)
            for (int i = 0; i < query.Length; i += problem.KeyDim) query[i] = 8;
        int row = problem.KeyValueHeads * problem.KeyDim;
        for (int j = 7; j < Keys; j += 31)
            for (int h = 0; h < problem.KeyValueHeads; h++) problem.Key[0][(j * row) + (h * problem.KeyDim)] = -60_000;
        return (problem, [.. Enumerable.Range(0, Keys / 31).Select(static n => (7 + (31 * n), n, float.NaN))]);
    }

    /// <summary>150 keys, of which a bias excludes 60 and a cap, which comes after it, none.</summary>
    public static Problem CappedAfterBias(int queries)
    {
        const int Keys = 150;
        float[] bias = new float[queries * Keys];
        for (int i = 0; i < queries; i++) Array.Fill(bias, float.NegativeInfinity, (i * Keys) + (i % 5), 60);
        Problem problem = Of(queries, Keys, AttentionElementType.Float16, "nothing") with { Bias = new Broadcast<float>(bias, 1, 1, queries, Keys) };
        return problem with { Options = problem.Options with { ScoreFunction = ScoreFunction.Of(new TanhCap(3)) } };
    }
}
