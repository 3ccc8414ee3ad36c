namespace FusedAttention.Scores.Tracing;

/// <summary>
/// What a function computes, less what it has captured: its operations, with tables and parameters as numbered slots. Two functions of one form are equal here, and one kernel computes both; kernels that are kept for good
/// may hold a form, since it holds no table.
/// </summary>
internal sealed class ScoreForm : IEquatable<ScoreForm>
{
    private readonly ScoreStep[] _steps;
    private readonly int _hash;

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
    }

    public ReadOnlySpan<ScoreStep> Steps => _steps;

    /// <summary>How many tables it looks up.</summary>
    public int Tables { get; }

    /// <summary>How many parameters it takes.</summary>
    public int Parameters { get; }

    /// <summary>Whether a step of this kind is there.</summary>
    public bool Has(ScoreOperation operation) => Array.Exists(_steps, step => step.Operation == operation);

    public bool Equals(ScoreForm? other) => ReferenceEquals(this, other) || (other is not null && _hash == other._hash && _steps.AsSpan().SequenceEqual(other._steps));

    public override bool Equals(object? obj) => Equals(obj as ScoreForm);

    public override int GetHashCode() => _hash;
}
