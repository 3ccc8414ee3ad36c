using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Functions;

/// <summary>A score function whose body is a part of the loop over a row.</summary>
internal sealed unsafe class BoundScore<TS, TV, TFunction>(TFunction function) : BoundScore
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TFunction : struct, IScoreFunction
{
    public override void Apply(in FunctionRow row, float* scores, long firstKey, int vectors, float scale)
    {
        Run(function, row, scores, firstKey, vectors, scale);

        // The function holds its tables, whose addresses alone the loop has.
        GC.KeepAlive(this);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Run(TFunction function, in FunctionRow row, float* scores, long firstKey, int vectors, float scale)
    {
        var place = new LanePlace<TS, TV>(row, firstKey);
        TV multiplier = TS.Create(scale);
        for (float* end = scores + (vectors * TS.Width); scores < end; scores += TS.Width)
        {
            Lanes<TS, TV> score = function.Score(new Lanes<TS, TV>(TS.Multiply(TS.Load(scores), multiplier), Pattern.Any), place.Context());
            TS.Store(scores, score.Value);
            place.Advance();
        }
    }
}

/// <summary>Score functions one after the other, a pass each.</summary>
internal sealed unsafe class BoundScoreChain(BoundScore[] parts) : BoundScore
{
    public override void Apply(in FunctionRow row, float* scores, long firstKey, int vectors, float scale)
    {
        foreach (BoundScore part in parts)
        {
            part.Apply(row, scores, firstKey, vectors, scale);
            scale = 1;
        }
    }
}
