using System.Text;

namespace FusedAttention.Testing;

/// <summary>Which of the three calls a problem is for.</summary>
public enum CallForm
{
    Dense,
    Packed,
    Paged,
}

/// <summary>A mask or bias as it is passed: [batch, head, query, key] with broadcast over lengths of 1; packed and paged calls have batch 1.</summary>
internal sealed record Broadcast<T>(T[] Values, int Batch, int Heads, int Queries, int Keys)
{
    /// <summary>How many dimensions the call passes; the leading ones it leaves out have length 1.</summary>
    public int Rank { get; init; } = 4;

    public T At(int batch, int head, int query, int key)
    {
        long b = Batch == 1 ? 0 : batch;
        long h = Heads == 1 ? 0 : head;
        long q = Queries == 1 ? 0 : query;
        return Values[(((((b * Heads) + h) * Queries) + q) * Keys) + key];
    }

    public override string ToString() => $"[{Batch}, {Heads}, {Queries}, {Keys}] as rank {Rank}";
}

/// <summary>Over what the scales of 8-bit keys or values vary: what the tensor of them has dimensions of 1 for.</summary>
public enum ScalePattern
{
    None,
    One,
    PerHead,
    PerToken,
    PerTokenAndHead,

    /// <summary>Dense calls: per batch row and head.</summary>
    PerSequenceAndHead,
}

/// <summary>
/// One attention problem apart from where it lies in memory: per sequence, plain arrays of numbers already rounded to the element types.
/// Everything that tests exchange (the generator, the oracle, the caller) speaks of this.
/// </summary>
internal sealed record Problem
{
    public required string Name { get; init; }

    public required CallForm Form { get; init; }

    public AttentionElementType QueryType { get; init; }

    public AttentionElementType KeyValueType { get; init; }

    public required int Heads { get; init; }

    public required int KeyValueHeads { get; init; }

    public required int KeyDim { get; init; }

    public required int ValueDim { get; init; }

    /// <summary>Query tokens of each sequence; all the same in a dense call.</summary>
    public required int[] QueryLengths { get; init; }

    /// <summary>Valid keys of each sequence.</summary>
    public required int[] KeyLengths { get; init; }

    /// <summary>Per sequence [token, head, keyDim].</summary>
    public required float[][] Query { get; init; }

    /// <summary>Per sequence [token, kvHead, keyDim].</summary>
    public required float[][] Key { get; init; }

    /// <summary>Per sequence [token, kvHead, valueDim].</summary>
    public required float[][] Value { get; init; }

    /// <summary>8-bit keys: <see cref="Key"/> has codes, and these are what they are multiplied with, [token, kvHead] or, in blocks, [token, kvHead, block]. Null for 1.</summary>
    public float[][]? KeyScales { get; init; }

    /// <summary>The same for values.</summary>
    public float[][]? ValueScales { get; init; }

    public ScalePattern KeyScalePattern { get; init; }

    public ScalePattern ValueScalePattern { get; init; }

    public AttentionOptions Options { get; init; } = AttentionOptions.Default;

    public CpuExecution Execution { get; init; } = CpuExecution.Default;

    public long[]? QueryOffsets { get; init; }

    public Broadcast<bool>? Mask { get; init; }

    public Broadcast<float>? Bias { get; init; }

    public AttentionElementType BiasType { get; init; }

    /// <summary>Dense calls: the key dimension of the tensors, at least the longest of <see cref="KeyLengths"/>.</summary>
    public int KeyCapacity { get; init; }

    /// <summary>Dense calls: whether <see cref="KeyLengths"/> are passed.</summary>
    public bool PassesKeyLengths { get; init; }

    /// <summary>Paged calls.</summary>
    public int BlockSize { get; init; }

    public int Sequences => QueryLengths.Length;

    public int TotalQueries => QueryLengths.Sum();

    public float Scale => Options.Scale ?? (float)(1 / Math.Sqrt(KeyDim));

    /// <summary>The row of the packed query tensor where a sequence begins.</summary>
    public int FirstQuery(int sequence) => QueryLengths.AsSpan(0, sequence).ToArray().Sum();

    /// <summary>The position of query 0 of a sequence on its key axis.</summary>
    public long Offset(int sequence) => QueryOffsets is not null ? QueryOffsets[sequence]
        : Options.QueryOffset is long offset ? offset
        : Options.Alignment == AttentionAlignment.TopLeft ? 0
        : KeyLengths[sequence] - QueryLengths[sequence];

    /// <summary>The keys that position alone allows to one query: causal and window, within the sequence.</summary>
    public (int From, int To) KeyRange(int sequence, int query)
    {
        long position = query + Offset(sequence);
        long from = 0;
        long to = KeyLengths[sequence];
        AttentionMask mask = Options.Mask;
        if (mask.IsCausal) to = Math.Min(to, position + 1);
        if (mask.WindowLeft is int left) from = Math.Max(from, position - left);
        if (mask.WindowRight is int right) to = Math.Min(to, position + right + 1);
        return from < to ? ((int)from, (int)to) : (0, 0);
    }

    /// <summary>The keys that some query of the sequence may see by position; what lies outside must never be read.</summary>
    public (int From, int To) KeyRange(int sequence)
    {
        (int From, int To) union = (int.MaxValue, 0);
        for (int i = 0; i < QueryLengths[sequence]; i++)
        {
            (int from, int to) = KeyRange(sequence, i);
            if (from < to) union = (Math.Min(union.From, from), Math.Max(union.To, to));
        }

        return union.To == 0 ? (0, 0) : union;
    }

    /// <summary>The numbers of a sequence's keys, scales included.</summary>
    public double[] KeyNumbers(int sequence) => Scaled(Key[sequence], KeyScales?[sequence]);

    /// <summary>The numbers of its values.</summary>
    public double[] ValueNumbers(int sequence) => Scaled(Value[sequence], ValueScales?[sequence]);

    /// <summary>One sequence of the problem, alone, with its part of masks and biases; functions must not vary by sequence.</summary>
    public Problem Only(int sequence) => this with
    {
        Mask = RowsOf(Mask, sequence),
        Bias = RowsOf(Bias, sequence),
        Name = $"{Name}, sequence {sequence} alone",
        QueryLengths = [QueryLengths[sequence]],
        KeyLengths = [KeyLengths[sequence]],
        Query = [Query[sequence]],
        Key = [Key[sequence]],
        Value = [Value[sequence]],
        KeyScales = KeyScales is null ? null : [KeyScales[sequence]],
        ValueScales = ValueScales is null ? null : [ValueScales[sequence]],
        QueryOffsets = QueryOffsets is null ? null : [QueryOffsets[sequence]],
    };

    /// <summary>
    /// The queries <paramref name="from"/> to <paramref name="to"/> of a one-sequence problem at the moment when they are the newest: with
    /// the keys that a causal prefill has seen by then, so that bottom-right alignment gives them their old positions.
    /// </summary>
    public Problem Chunk(int from, int to)
    {
        int keys = KeyLengths[0] - QueryLengths[0] + to;
        return this with
        {
            Name = $"{Name}, queries {from} to {to}",
            QueryLengths = [to - from],
            KeyLengths = [keys],
            KeyCapacity = keys,
            Query = [Query[0][(from * Heads * KeyDim)..(to * Heads * KeyDim)]],
            Key = [Key[0][..(keys * KeyValueHeads * KeyDim)]],
            Value = [Value[0][..(keys * KeyValueHeads * ValueDim)]],
            KeyScales = KeyScales is null ? null : [KeyScales[0][..(keys * KeyScales[0].Length / KeyLengths[0])]],
            ValueScales = ValueScales is null ? null : [ValueScales[0][..(keys * ValueScales[0].Length / KeyLengths[0])]],
        };
    }

    /// <summary>The same problem as a dense call: every sequence gets the query length of the longest.</summary>
    public Problem AsDense()
    {
        if (Form == CallForm.Dense) return this with { PassesKeyLengths = true };
        int queries = QueryLengths.Max();
        Problem dense = this with
        {
            Form = CallForm.Dense,
            QueryLengths = [.. QueryLengths.Select(_ => queries)],
            KeyCapacity = KeyLengths.Max(),
            PassesKeyLengths = true,
        };
        return new ProblemGenerator(queries).Fill(dense);
    }

    public override string ToString()
    {
        var text = new StringBuilder();
        text.Append($"{Name}: {Form} {QueryType}");
        if (KeyValueType != QueryType) text.Append($" over {KeyValueType}");
        text.Append($", heads {Heads}/{KeyValueHeads}, dims {KeyDim}/{ValueDim}, queries [{string.Join(' ', QueryLengths)}], keys [{string.Join(' ', KeyLengths)}]");
        if (Form == CallForm.Dense && PassesKeyLengths) text.Append($" of {KeyCapacity}");
        if (Form == CallForm.Paged) text.Append($", blocks of {BlockSize}");
        if (KeyScalePattern != ScalePattern.None || ValueScalePattern != ScalePattern.None) text.Append($", scales {KeyScalePattern} and {ValueScalePattern}");
        text.Append($", {Options.Mask}, {Options.Alignment}");
        if (Options.Scale is float scale) text.Append($", scale {scale}");
        if (Options.QueryOffset is long offset) text.Append($", offset {offset}");
        if (QueryOffsets is not null) text.Append($", offsets [{string.Join(' ', QueryOffsets)}]");
        if (!Options.AlibiSlopes.IsDefaultOrEmpty) text.Append($", alibi [{string.Join(' ', Options.AlibiSlopes)}]");
        if (Options.SoftCap > 0) text.Append($", soft cap {Options.SoftCap}");
        if (!Options.SinkLogits.IsDefaultOrEmpty) text.Append($", sinks [{string.Join(' ', Options.SinkLogits)}]");
        if (Mask is not null) text.Append($", mask {Mask}");
        if (Bias is not null) text.Append($", bias {BiasType} {Bias}");
        if (Options.ScoreFunction is not null) text.Append($", scores by {Options.ScoreFunction}");
        if (Options.MaskFunction is not null) text.Append($", masked by {Options.MaskFunction}");
        if (Options.RowInvariant) text.Append(", row invariant");
        if (Execution.InstructionSet != CpuInstructionSet.Auto) text.Append($", {Execution.InstructionSet}");
        if (Execution.MaxDegreeOfParallelism != -1) text.Append($", {Execution.MaxDegreeOfParallelism} threads");
        return text.ToString();
    }

    /// <summary>What of a mask or bias belongs to a sequence.</summary>
    private Broadcast<T>? RowsOf<T>(Broadcast<T>? all, int sequence)
    {
        if (all is null || (Form == CallForm.Dense ? all.Batch : all.Queries) == 1) return all;
        int rows = QueryLengths[sequence], first = Form == CallForm.Dense ? 0 : FirstQuery(sequence);
        if (Form == CallForm.Dense) rows = all.Queries;
        T[] values = [.. Enumerable.Range(0, all.Heads * rows * all.Keys).Select(i => all.At(sequence, i / (rows * all.Keys), first + (i / all.Keys % rows), i % all.Keys))];
        return all with { Values = values, Batch = 1, Queries = rows };
    }

    private static double[] Scaled(float[] numbers, float[]? scales)
    {
        double[] scaled = new double[numbers.Length];
        int width = scales is null || scales.Length == 0 ? 1 : numbers.Length / scales.Length;
        for (int i = 0; i < scaled.Length; i++) scaled[i] = scales is null ? numbers[i] : (double)numbers[i] * scales[i / width];
        return scaled;
    }
}
