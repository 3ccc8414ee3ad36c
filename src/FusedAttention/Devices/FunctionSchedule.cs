using FusedAttention.Scores.Tracing;

namespace FusedAttention.Devices;

/// <summary>How a kernel computes a sum or a difference of a function.</summary>
internal enum SumForm
{
    /// <summary>As it stands, rounded once.</summary>
    Rounded,

    /// <summary>A product that no one else needs, and an addend: one rounding.</summary>
    MultiplyAdd,

    /// <summary>Position less key: from the distance of the row's first key of a tile, which is the same for all of them.</summary>
    Ahead,

    /// <summary>Key less position.</summary>
    Behind,
}

/// <summary>A sum or a difference with the numbers of its operands in the function.</summary>
/// <param name="Form">How it is computed.</param>
/// <param name="Left">A factor of a multiply-add.</param>
/// <param name="Right">The other factor.</param>
/// <param name="Addend">What is added to the product.</param>
/// <param name="NegatesLeft">Whether the left factor changes its sign first.</param>
/// <param name="NegatesAddend">Whether the addend does.</param>
internal readonly record struct SumRule(SumForm Form, int Left = -1, int Right = -1, int Addend = -1, bool NegatesLeft = false, bool NegatesAddend = false);

/// <summary>What everyone asks who writes a function into a kernel's text: which operations are the same for all keys of a row, and which products become a part of a multiply-add.</summary>
internal sealed class FunctionSchedule
{
    private readonly ScoreForm _form;

    public FunctionSchedule(ScoreForm form) => _form = form;

    /// <summary>How many operations there are; the last one is the result.</summary>
    public int Count => _form.Steps.Length;

    public ScoreStep this[int index] => _form.Steps[index];

    /// <summary>Whether an operation's result differs from key to key of a row.</summary>
    public bool DependsOnKey(int index) => _form.DependsOnKey(index);

    /// <summary>How a sum or a difference is computed.</summary>
    public SumRule RuleOf(in ScoreStep step) => step.Operation == ScoreOperation.Add ? OfSum(step.First, step.Second) : OfDifference(step.First, step.Second);

    private SumRule OfSum(int first, int second)
    {
        if (IsFactors(first)) return new(SumForm.MultiplyAdd, this[first].First, this[first].Second, second);
        if (IsFactors(second)) return new(SumForm.MultiplyAdd, this[second].First, this[second].Second, first);
        return default;
    }

    private SumRule OfDifference(int first, int second)
    {
        switch (this[first].Operation, this[second].Operation)
        {
            case (ScoreOperation.Position, ScoreOperation.Key):
                return new(SumForm.Ahead);
            case (ScoreOperation.Key, ScoreOperation.Position):
                return new(SumForm.Behind);
        }

        if (IsFactors(second))
        {
            // The sign goes to the factor that is the same for all keys, if one is.
            ScoreStep product = this[second];
            return DependsOnKey(product.First)
                ? new(SumForm.MultiplyAdd, product.Second, product.First, first, NegatesLeft: true)
                : new(SumForm.MultiplyAdd, product.First, product.Second, first, NegatesLeft: true);
        }

        if (IsFactors(first)) return new(SumForm.MultiplyAdd, this[first].First, this[first].Second, second, NegatesAddend: true);
        return default;
    }

    /// <summary>Whether a product is computed for each key, so that it may as well be part of a multiply-add.</summary>
    private bool IsFactors(int index) => this[index].Operation == ScoreOperation.Multiply && DependsOnKey(index);
}
