using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Functions;

/// <summary>
/// Functions in the form of an instruction set. Each is made once and kept as long as the function, so that a call allocates nothing. The types meet in generic methods that a function calls back with its own type:
/// no reflection, and a compiler ahead of time sees every combination.
/// </summary>
internal static class FunctionBinder<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    private static readonly ConditionalWeakTable<ScoreFunction, BoundScore> Scores = [];
    private static readonly ConditionalWeakTable<MaskFunction, BoundMask> Masks = [];

    /// <summary>Gives a call's functions their form.</summary>
    public static void Bind(AttentionProblem problem)
    {
        problem.BoundScore = problem.ScoreFunction is { } score ? Scores.GetValue(score, static f => Of(f)) : null;
        problem.BoundMask = problem.MaskFunction is { } mask ? Masks.GetValue(mask, static f => Of(f)) : null;
    }

    private static BoundScore Of(ScoreFunction function)
    {
        var parts = new List<BoundScore>();
        foreach (ScorePart part in function.Parts)
        {
            ScoreBinder binder = default;
            part.Accept(ref binder);
            parts.Add(binder.Bound!);
        }

        return parts is [BoundScore only] ? only : new BoundScoreChain([.. parts]);
    }

    private static BoundMask Of(MaskFunction function)
    {
        var parts = new List<BoundMask>();
        foreach (MaskPart part in function.Parts)
        {
            MaskBinder binder = default;
            part.Accept(ref binder);
            parts.Add(binder.Bound!);
        }

        return parts is [BoundMask only] ? only : new BoundMaskChain([.. parts]);
    }

    private struct ScoreBinder : IScoreVisitor
    {
        public BoundScore? Bound;

        public void Visit<TFunction>(TFunction function)
            where TFunction : struct, IScoreFunction
            => Bound = new BoundScore<TS, TV, TFunction>(function);
    }

    private struct MaskBinder : IMaskVisitor
    {
        public BoundMask? Bound;

        public void Visit<TFunction>(TFunction function)
            where TFunction : struct, IMaskFunction
            => Bound = new BoundMask<TS, TV, TFunction>(function);
    }
}
