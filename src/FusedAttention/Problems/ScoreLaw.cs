using System.Runtime.CompilerServices;

namespace FusedAttention.Problems;

/// <summary>The steps that a call's scores go through beside the scale, which all have.</summary>
[Flags]
internal enum ScoreSteps
{
    None = 0,
    SoftCap = 1,
    Bias = 2,
    Alibi = 4,
    Mask = 8,
    Function = 16,
    MaskFunction = 32,
}

/// <summary>
/// A backend's form of the steps from a dot product to a score: passes over a row, operations on one number, or lines of text of a kernel. Which come, and in which order, is <see cref="ScoreLaw"/>'s.
/// </summary>
internal interface IScoreSteps
{
    /// <summary><c>s = scale * s</c>. It always comes, first.</summary>
    void Scale();

    /// <summary><c>s = softCap * tanh(s / softCap)</c>.</summary>
    void SoftCap();

    /// <summary><c>s = s + bias</c>; a bias of negative infinity excludes the key, and makes the score negative infinity whatever it was before.</summary>
    void Bias();

    /// <summary><c>s = s - slope * |p - j|</c> for the query's position p and the key's j.</summary>
    void Alibi();

    /// <summary><c>s = f(s)</c> for the caller's score function; negative infinity excludes the key, and nothing else that was added: the function may make a number of the negative infinity of a bias.</summary>
    void Function();

    /// <summary>Excludes keys where the boolean mask is false.</summary>
    void Mask();

    /// <summary>Excludes keys that the caller's mask function does not keep.</summary>
    void MaskFunction();
}

/// <summary>
/// The order of the steps, in the one place that has it: scale, soft cap, bias, ALiBi, score function, masks (the order of the ONNX operator Attention, which has no functions). Positions exclude keys beforehand: <see cref="KeyRange"/>.
/// </summary>
internal static class ScoreLaw
{
    /// <summary>Takes scores through those steps that are present, in the order of the law.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Apply<TSteps>(scoped ref TSteps steps, ScoreSteps present)
        where TSteps : struct, IScoreSteps, allows ref struct
    {
        steps.Scale();
        if ((present & ScoreSteps.SoftCap) != ScoreSteps.None) steps.SoftCap();
        if ((present & ScoreSteps.Bias) != ScoreSteps.None) steps.Bias();
        if ((present & ScoreSteps.Alibi) != ScoreSteps.None) steps.Alibi();
        if ((present & ScoreSteps.Function) != ScoreSteps.None) steps.Function();
        if ((present & ScoreSteps.Mask) != ScoreSteps.None) steps.Mask();
        if ((present & ScoreSteps.MaskFunction) != ScoreSteps.None) steps.MaskFunction();
    }
}
