namespace FusedAttention.Scores.Tracing;

/// <summary>
/// What a function has of a tile of rows and keys, rather than of each score: numbers that follow from the key alone, of which a tile has one a column, and from how far the key is from the row's position, of which a tile of consecutive
/// positions has one a diagonal. 128 rows and keys are 16,384 scores, and 128 columns and 255 diagonals.
/// </summary>
/// <remarks>
/// A number is as large a part of the function as can be, and not a product that a sum takes, but its factors: the sum is a multiply-add, whose result is not that of a product which was rounded before. So a score has the same bits
/// whether its numbers were there or not.
/// </remarks>
internal sealed class TileNumbers
{
    /// <summary>Numbers of each kind that are worth a place.</summary>
    private const int MostOfKind = 2;

    /// <summary>Operations from which on a number is: a score reads it as fast as it does two or three. The distance alone, times a slope too, is none.</summary>
    private const int LeastCost = 5;

    private readonly ScoreForm _form;
    private readonly Sources[] _sources;
    private readonly bool[] _isVisited;
    private readonly List<int> _ofKeys = [];
    private readonly List<int> _ofDistances = [];

    /// <param name="form">The function.</param>
    /// <param name="hasOneHead">Whether all rows of a tile are of one query head, at consecutive positions.</param>
    public TileNumbers(ScoreForm form, bool hasOneHead)
    {
        (_form, HasOneHead, _sources, _isVisited) = (form, hasOneHead, new Sources[form.Steps.Length], new bool[form.Steps.Length]);
        for (int i = 0; i < _sources.Length; i++) _sources[i] = SourcesOf(form.Steps[i]);
        Find(_sources.Length - 1, isTerm: false);
        Keep(_ofKeys);
        Keep(_ofDistances);
        ScoreCost = form.CostOfResult(this);
    }

    private enum Kind
    {
        None,
        Key,
        Distance,
    }

    [Flags]
    private enum Sources
    {
        None = 0,
        Key = 1,
        Distance = 2,
        Head = 4,
        Other = 8,
    }

    public bool HasOneHead { get; }

    /// <summary>Steps that give numbers of a key, in order.</summary>
    public IReadOnlyList<int> OfKeys => _ofKeys;

    /// <summary>Steps that give numbers of a distance, in order.</summary>
    public IReadOnlyList<int> OfDistances => _ofDistances;

    /// <summary>Roughly how many instructions of a GPU each score takes beside them.</summary>
    public int ScoreCost { get; }

    /// <summary>Whether a step gives one of them.</summary>
    public bool Contain(int step) => _ofKeys.Contains(step) || _ofDistances.Contains(step);

    private Sources SourcesOf(in ScoreStep step) => step.Operation switch
    {
        ScoreOperation.Key => Sources.Key,
        ScoreOperation.Head => Sources.Head,
        ScoreOperation.Score or ScoreOperation.Query or ScoreOperation.Position => Sources.Other,
        ScoreOperation.Subtract when IsDistance(step) => Sources.Distance,

        // The sequence, too, is that of all rows.
        _ => ScoreForm.Operands(step).Aggregate(Sources.None, (all, operand) => all | _sources[operand]),
    };

    private bool IsDistance(in ScoreStep step) => (_form.Steps[step.First].Operation, _form.Steps[step.Second].Operation)
        is (ScoreOperation.Key, ScoreOperation.Position) or (ScoreOperation.Position, ScoreOperation.Key);

    private Kind KindOf(int step) => (HasOneHead ? _sources[step] & ~Sources.Head : _sources[step]) switch
    {
        Sources.Key => Kind.Key,
        Sources.Distance when HasOneHead => Kind.Distance,
        _ => Kind.None,
    };

    /// <summary>Goes down from a step to the numbers that it is made of.</summary>
    /// <param name="index">The step.</param>
    /// <param name="isTerm">Whether a sum or a difference asks for it.</param>
    private void Find(int index, bool isTerm)
    {
        ScoreStep step = _form.Steps[index];
        bool isFused = isTerm && step.Operation == ScoreOperation.Multiply;
        if (!_form.DependsOnKey(index) || (_isVisited[index] && !isFused)) return;
        _isVisited[index] = true;
        Kind kind = KindOf(index);
        if (kind != Kind.None && !step.IsTruth && !isFused && _form.CostOfKey(index) >= LeastCost)
        {
            List<int> numbers = kind == Kind.Key ? _ofKeys : _ofDistances;
            numbers.Add(index);
            return;
        }

        foreach (int operand in ScoreForm.Operands(step)) Find(operand, step.Operation is ScoreOperation.Add or ScoreOperation.Subtract);
    }

    /// <summary>The costliest.</summary>
    private void Keep(List<int> numbers)
    {
        int[] kept = [.. numbers.OrderByDescending(_form.CostOfKey).Take(MostOfKind).Order()];
        numbers.Clear();
        numbers.AddRange(kept);
    }
}
