namespace FusedAttention.Scores.Tracing;

/// <summary>
/// What a function computes, less what it has captured: its operations, with tables and parameters as numbered slots. Two functions of one form are equal here, and one kernel computes both; kernels that are kept for good
/// may hold a form, since it holds no table.
/// </summary>
internal sealed class ScoreForm : IEquatable<ScoreForm>
{
    /// <summary>Numbers of a row that are worth a place of their own.</summary>
    private const int MostRowNumbers = 4;

    /// <summary>Operations from which on a number is: fewer are done again as fast as it is read.</summary>
    private const int LeastCost = 4;

    /// <summary>More is not told apart.</summary>
    private const int MostCost = 1 << 20;

    private readonly ScoreStep[] _steps;
    private readonly bool[] _dependsOnKey;
    private readonly int[] _rowNumbers;
    private readonly int _hash;
    private readonly Lazy<TileNumbers> _ofOneHead;
    private readonly Lazy<TileNumbers> _ofHeads;

    /// <param name="steps">Operands before what takes them, the result last.</param>
    public ScoreForm(IReadOnlyList<ScoreStep> steps)
    {
        _steps = [.. steps];
        var hash = default(HashCode);
        foreach (ScoreStep step in _steps)
        {
            hash.Add(step);
            if (step.Operation == ScoreOperation.Lookup) Tables = Math.Max(Tables, step.Slot + 1);
            if (step.Operation == ScoreOperation.Parameter) Parameters = Math.Max(Parameters, step.Slot + 1);
        }

        _hash = hash.ToHashCode();
        _dependsOnKey = new bool[_steps.Length];
        for (int i = 0; i < _steps.Length; i++)
            _dependsOnKey[i] = _steps[i].Operation is ScoreOperation.Score or ScoreOperation.Key || Array.Exists(Operands(_steps[i]), operand => _dependsOnKey[operand]);
        _rowNumbers = FindRowNumbers();
        KeyCost = CostOfKey(_steps.Length - 1);
        (_ofOneHead, _ofHeads) = (new(() => new(this, hasOneHead: true)), new(() => new(this, hasOneHead: false)));
    }

    public ReadOnlySpan<ScoreStep> Steps => _steps;

    /// <summary>How many tables it looks up.</summary>
    public int Tables { get; }

    /// <summary>How many parameters it takes.</summary>
    public int Parameters { get; }

    /// <summary>
    /// Up to four steps whose results are the same for all keys of a row and take more than a few operations: what a kernel may compute once a row. Not those that only other such steps ask for.
    /// </summary>
    public ReadOnlySpan<int> RowNumbers => _rowNumbers;

    /// <summary>Roughly how many instructions of a GPU each key takes.</summary>
    public int KeyCost { get; }

    /// <summary>What may be computed once a tile instead of for each of its scores.</summary>
    /// <param name="hasOneHead">Whether all rows of a tile are of one query head, at consecutive positions.</param>
    public TileNumbers NumbersOfTile(bool hasOneHead) => (hasOneHead ? _ofOneHead : _ofHeads).Value;

    /// <summary>Roughly how many instructions of a GPU a step's result takes for each key.</summary>
    public int CostOfKey(int step) => CostOf(step, null);

    /// <summary>The same of the function's result, beside numbers that are read, an instruction each.</summary>
    public int CostOfResult(TileNumbers numbers) => CostOf(_steps.Length - 1, numbers);

    /// <summary>Whether a step's result differs from key to key of a row.</summary>
    public bool DependsOnKey(int step) => _dependsOnKey[step];

    /// <summary>Whether a step of this kind is there.</summary>
    public bool Has(ScoreOperation operation) => Array.Exists(_steps, step => step.Operation == operation);

    public bool Equals(ScoreForm? other) => ReferenceEquals(this, other) || (other is not null && _hash == other._hash && _steps.AsSpan().SequenceEqual(other._steps));

    public override bool Equals(object? obj) => Equals(obj as ScoreForm);

    public override int GetHashCode() => _hash;

    /// <summary>The numbers of a step's operands.</summary>
    public static int[] Operands(in ScoreStep step) => Array.FindAll([step.First, step.Second, step.Third], static operand => operand >= 0);

    /// <summary>What is shared counts once; a product that a sum takes is a part of the sum, a sign or its absence one of who asks for it, and the distance of a key one operation on one of the row's.</summary>
    private int CostOf(int step, TileNumbers? numbers)
    {
        bool[] isCounted = new bool[_steps.Length];
        return Add(step, isTerm: false);

        int Add(int index, bool isTerm)
        {
            if (!_dependsOnKey[index] || isCounted[index]) return 0;
            isCounted[index] = true;
            if (numbers?.Contain(index) == true) return 1;
            ScoreStep at = _steps[index];
            bool isSum = at.Operation is ScoreOperation.Add or ScoreOperation.Subtract;
            int cost = (isTerm && at.Operation == ScoreOperation.Multiply) || at.Operation is ScoreOperation.Abs or ScoreOperation.Negate or ScoreOperation.Key ? 0 : CostOf(at.Operation);
            foreach (int operand in Operands(at)) cost += Add(operand, isSum);
            return cost;
        }
    }

    private int[] FindRowNumbers()
    {
        int[] costs = new int[_steps.Length];
        bool[] isAskedForEachKey = new bool[_steps.Length];
        isAskedForEachKey[^1] = true;
        for (int i = 0; i < _steps.Length; i++)
        {
            costs[i] = CostOf(_steps[i].Operation);
            foreach (int operand in Operands(_steps[i]))
            {
                // What is shared counts wherever it is asked for, so squares of squares would be beyond any number.
                costs[i] = Math.Min(costs[i] + costs[operand], MostCost);
                isAskedForEachKey[operand] |= _dependsOnKey[i];
            }
        }

        return
        [
            .. Enumerable.Range(0, _steps.Length).Where(i => !_dependsOnKey[i] && !_steps[i].IsTruth && costs[i] >= LeastCost && isAskedForEachKey[i])
                .OrderByDescending(i => costs[i]).Take(MostRowNumbers).Order(),
        ];
    }

    /// <summary>Roughly, in instructions of a GPU.</summary>
    private static int CostOf(ScoreOperation operation) => operation switch
    {
        ScoreOperation.Constant or ScoreOperation.Parameter or ScoreOperation.Score => 0,
        ScoreOperation.Exp or ScoreOperation.Log or ScoreOperation.Tanh or ScoreOperation.Lookup => 16,
        ScoreOperation.Divide or ScoreOperation.Remainder or ScoreOperation.Sqrt => 6,
        _ => 1,
    };
}
