using System.Numerics;
using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Functions;

/// <summary>A mask function whose body is a part of the loops over a row.</summary>
internal sealed unsafe class BoundMask<TS, TV, TFunction>(TFunction function) : BoundMask
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TFunction : struct, IMaskFunction
{
    public override void Apply(in FunctionRow row, float* scores, long firstKey, int vectors)
    {
        Run(function, row, scores, firstKey, vectors);

        // The function holds its tables, whose addresses alone the loop has.
        GC.KeepAlive(this);
    }

    public override int First(in FunctionRow row, int start, int end)
    {
        int first = First(function, row, start, end);
        GC.KeepAlive(this);
        return first;
    }

    public override int End(in FunctionRow row, int start, int end)
    {
        end = End(function, row, start, end);
        GC.KeepAlive(this);
        return end;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Run(TFunction function, in FunctionRow row, float* scores, long firstKey, int vectors)
    {
        var place = new LanePlace<TS, TV>(row, firstKey);
        TV excluded = TS.Create(float.NegativeInfinity);
        for (float* end = scores + (vectors * TS.Width); scores < end; scores += TS.Width)
        {
            TS.Store(scores, TS.Select(function.Keep(place.Context()).Value, TS.Load(scores), excluded));
            place.Advance();
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int First(TFunction function, in FunctionRow row, int start, int end)
    {
        var place = new LanePlace<TS, TV>(row, start);

        // Where nothing is kept for long, as of most tiles of other documents: four vectors for one branch.
        for (; start + (4 * TS.Width) <= end; start += 4 * TS.Width)
        {
            TV any = function.Keep(place.Context()).Value;
            for (int i = 1; i < 4; i++)
            {
                place.Advance();
                any = TS.Or(any, function.Keep(place.Context()).Value);
            }

            if (TS.Bits(any) != 0)
            {
                place.MoveTo(start);
                break;
            }

            place.Advance();
        }

        for (; start < end; start += TS.Width)
        {
            uint kept = TS.Bits(function.Keep(place.Context()).Value);
            if (kept != 0) return Math.Min(start + BitOperations.TrailingZeroCount(kept), end);
            place.Advance();
        }

        return end;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int End(TFunction function, in FunctionRow row, int start, int end)
    {
        var place = new LanePlace<TS, TV>(row, start);
        while (start < end)
        {
            // The last vector of the interval, or the whole of one that is shorter: then lanes lie beyond its end.
            int first = Math.Max(start, end - TS.Width);
            place.MoveTo(first);
            uint kept = TS.Bits(function.Keep(place.Context()).Value) & (uint)((1UL << (end - first)) - 1);
            if (kept != 0) return first + BitOperations.Log2(kept) + 1;
            end = first;
        }

        return start;
    }
}

/// <summary>Mask functions all of which must keep a key, a pass each.</summary>
internal sealed unsafe class BoundMaskChain(BoundMask[] parts) : BoundMask
{
    public override void Apply(in FunctionRow row, float* scores, long firstKey, int vectors)
    {
        foreach (BoundMask part in parts) part.Apply(row, scores, firstKey, vectors);
    }

    public override int First(in FunctionRow row, int start, int end)
    {
        // Each part in turn moves the start to its own next key, until all of them have stayed.
        for (int agreed = 0, i = 0; agreed < parts.Length && start < end; i = (i + 1) % parts.Length)
        {
            int first = parts[i].First(row, start, end);
            agreed = first == start ? agreed + 1 : 1;
            start = first;
        }

        return start;
    }

    public override int End(in FunctionRow row, int start, int end)
    {
        for (int agreed = 0, i = 0; agreed < parts.Length && start < end; i = (i + 1) % parts.Length)
        {
            int last = parts[i].End(row, start, end);
            agreed = last == end ? agreed + 1 : 1;
            end = last;
        }

        return end;
    }
}
