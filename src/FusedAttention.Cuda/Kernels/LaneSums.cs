using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// m, l and O of the rows of a decode item as the threads of a block share them. Lane 4 g + q has rows g and g + 8, as matrix products leave them; of the blocks of eight columns a warp has every so many-th, and of those the
/// lane columns 2 q and 2 q + 1.
/// </summary>
/// <param name="Maximum">Of the two rows.</param>
/// <param name="Sum">Of the two rows.</param>
/// <param name="Outputs">Four for each block of columns: two of row g, two of row g + 8.</param>
internal sealed record LaneSums(F32[] Maximum, F32[] Sum, F32[] Outputs)
{
    /// <summary>Registers without a value.</summary>
    public static LaneSums In(PtxKernel k, string name, int columnBlocks) => new(k.Registers<F32>($"{name}_m", 2), k.Registers<F32>($"{name}_l", 2), k.Registers<F32>($"{name}_o", 4 * columnBlocks));

    /// <summary>Rows that have seen nothing.</summary>
    public void Clear()
    {
        foreach (F32 maximum in Maximum) maximum.Set(float.NegativeInfinity);
        foreach (F32 sum in Sum) sum.Set(0);
        foreach (F32 output in Outputs) output.Set(0);
    }

    /// <summary>Becomes a copy of others.</summary>
    public void Set(LaneSums others)
    {
        foreach ((F32 to, F32 from) in All().Zip(others.All())) to.Set(from);
    }

    /// <summary>Takes one more part in.</summary>
    public void Fold(LaneSums part, F32 factor)
    {
        var weights = new (F32, F32)[2];
        for (int r = 0; r < 2; r++) weights[r] = SplitFold.Take(Maximum[r], Sum[r], part.Maximum[r], part.Sum[r], factor);
        for (int i = 0; i < Outputs.Length; i++) SplitFold.Take(Outputs[i], part.Outputs[i], weights[i >> 1 & 1]);
    }

    /// <summary>In fours, as they are kept in shared memory.</summary>
    public IEnumerable<F32[]> Fours() => All().Chunk(4);

    private IEnumerable<F32> All() => [Maximum[0], Sum[0], Maximum[1], Sum[1], .. Outputs];
}

/// <summary>Sums that a block keeps while it takes more keys: in registers, or where those are needed for other things, in places of shared memory that each thread has for itself.</summary>
internal sealed class KeptSums
{
    private readonly PtxKernel _k;
    private readonly LaneSums? _registers;
    private readonly Shared? _home;
    private readonly string _name;
    private readonly int _columnBlocks;
    private readonly int _threads;

    /// <param name="k">The kernel.</param>
    /// <param name="name">In the text.</param>
    /// <param name="columnBlocks">Blocks of columns that a warp has.</param>
    /// <param name="threads">That have such sums.</param>
    /// <param name="home">The thread's first place; null: registers.</param>
    public KeptSums(PtxKernel k, string name, int columnBlocks, int threads, Shared? home)
    {
        (_k, _name, _columnBlocks, _threads, _home) = (k, name, columnBlocks, threads, home);
        if (home is null) _registers = LaneSums.In(k, name, columnBlocks);
    }

    /// <summary>Bytes of shared memory of a block.</summary>
    public static int BytesOf(int threads, int columnBlocks) => (1 + columnBlocks) * threads * 16;

    public void Clear() => Change(static sums => sums.Clear());

    /// <summary>Takes one more part in, the first one as it is.</summary>
    public void Take(LaneSums part, Predicate isFirst, F32 factor) => _k.If(isFirst, () => Change(sums => sums.Set(part)), () =>
    {
        LaneSums sums = Load();
        sums.Fold(part, factor);
        Store(sums);
    });

    /// <summary>The sums, in registers.</summary>
    public LaneSums Load()
    {
        if (_registers is not null) return _registers;
        LaneSums sums = LaneSums.In(_k, _name, _columnBlocks);
        foreach ((int i, F32[] four) in sums.Fours().Index()) _k.LoadVector(four, PlaceOf(i));
        return sums;
    }

    private void Change(Action<LaneSums> change)
    {
        LaneSums sums = _registers ?? LaneSums.In(_k, _name, _columnBlocks);
        change(sums);
        Store(sums);
    }

    private void Store(LaneSums sums)
    {
        if (_registers is not null) return;
        foreach ((int i, F32[] four) in sums.Fours().Index()) _k.StoreVector(PlaceOf(i), four);
    }

    private Shared PlaceOf(int four) => _home! + (four * _threads * 16);
}
