namespace FusedAttention.Cuda.Ptx;

/// <content>Threads among themselves.</content>
internal sealed partial class PtxKernel
{
    private const string AllLanes = "0xffffffff";

    private (int Id, int Threads)? _team;

    /// <summary>The thread's number in its block.</summary>
    public I32 ThreadIndex() => Special("%tid.x");

    /// <summary>The block's number along x.</summary>
    public I32 BlockX() => Special("%ctaid.x");

    /// <summary>The block's number along y.</summary>
    public I32 BlockY() => Special("%ctaid.y");

    /// <summary>The block's number along z.</summary>
    public I32 BlockZ() => Special("%ctaid.z");

    /// <summary>How many blocks there are along x.</summary>
    public I32 BlocksX() => Special("%nctaid.x");

    /// <summary>The value of the lane whose number differs in these bits.</summary>
    public T ShuffleXor<T>(T value, int bits)
        where T : Value, IValue<T> => Shuffle("shfl.sync.bfly.b32", value, bits);

    /// <summary>The value of that lane.</summary>
    public T ShuffleFrom<T>(T value, I32 lane)
        where T : Value, IValue<T> => Shuffle("shfl.sync.idx.b32", value, lane);

    /// <summary>The sum over lanes whose numbers differ in the bits from <paramref name="from"/> below <paramref name="below"/>, in all of them, in the same order.</summary>
    public F32 Sum(F32 value, int from, int below)
    {
        for (int bit = from; bit < below; bit *= 2) value += ShuffleXor(value, bit);
        return value;
    }

    /// <summary>The largest over such lanes.</summary>
    public F32 Max(F32 value, int from, int below)
    {
        for (int bit = from; bit < below; bit *= 2) value = F32.Max(value, ShuffleXor(value, bit));
        return value;
    }

    /// <summary>Whether it holds in any lane of the warp.</summary>
    public Predicate Any(Predicate condition)
    {
        Predicate result = Predicate.In(this);
        EmitText("vote.sync.any.pred", result, condition.InRegister(), AllLanes);
        return result;
    }

    /// <summary>Has <see cref="Barrier()"/> and <see cref="BarrierAny(Predicate)"/> in <paramref name="body"/> mean some of the block's threads only, by a barrier of their own.</summary>
    /// <param name="id">Of the barrier; not 0, which all threads have.</param>
    /// <param name="threads">A whole number of warps.</param>
    /// <param name="body">What those threads do.</param>
    public void AsTeam(int id, int threads, Action body)
    {
        if (_team is not null) throw new InvalidOperationException("Teams do not nest.");
        _team = (id, threads);
        body();
        _team = null;
    }

    /// <summary>Waits for all threads of the block, or of the team.</summary>
    public void Barrier()
    {
        if (_team is (int id, int threads)) Barrier(id, threads);
        else Emit("bar.sync", (I32)0);
    }

    /// <summary>Waits for as many threads, a whole number of warps, that name this barrier.</summary>
    public void Barrier(int id, int threads) => Emit("bar.sync", (I32)id, (I32)threads);

    /// <summary>Waits for all lanes of the warp; what they wrote to shared memory is seen by all of them.</summary>
    public void WarpBarrier() => EmitText("bar.warp.sync", AllLanes);

    /// <summary>Waits for all threads of the block, or of the team; whether it holds in any of them.</summary>
    public Predicate BarrierAny(Predicate condition)
    {
        if (_team is (int id, int threads)) return BarrierAny(id, threads, condition);
        Predicate result = Predicate.In(this);
        Emit("bar.red.or.pred", result, (I32)0, condition.InRegister());
        return result;
    }

    private T Shuffle<T>(string opcode, T value, I32 lane)
        where T : Value, IValue<T>
    {
        T result = T.In(this);
        EmitText(opcode, result, value, lane, "31", AllLanes);
        return result;
    }

    private I32 Special(string register)
    {
        I32 result = I32.In(this);
        EmitText("mov.u32", result, register);
        return result;
    }
}
