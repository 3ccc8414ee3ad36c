namespace FusedAttention.Metal.Planning;

/// <summary>A function with every operation that there is, for compiling where nothing runs.</summary>
/// <param name="list">A table of one row.</param>
/// <param name="grid">A table of two rows.</param>
/// <param name="scale">A number.</param>
internal readonly struct EveryOperation(ScoreTable list, ScoreTable grid, ScoreParameter scale) : IScoreFunction, IMaskFunction
{
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
    {
        T distance = T.Abs(at.Position - at.Key), behind = T.Max(at.Key - at.Position, 0);
        T bias = (list.At(at.Head) * T.Log(distance + 1)) + (grid.At(at.Batch, distance) / T.Sqrt(at.Query + 1)) - (list.At<T>(3) * T.Min(behind, scale));
        T bounded = T.Tanh(score) * T.Exp(-(distance % 7));
        return T.Select(Keep(at), T.Floor(bounded) + (score * bias), float.NegativeInfinity);
    }

    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => ((at.Key < at.Position) & (grid.At(at.Batch, at.Key) <= scale)) | !(at.Head == list.At(at.Key)) | T.Select(at.Query < 4, at.Batch == 0, at.Key < 0.5f);
}
