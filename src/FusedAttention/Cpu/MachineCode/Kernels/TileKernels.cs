using System.Collections.Concurrent;

namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>The tile products of one pair of dimensions, however they are run: by the processor, or in tests by something else.</summary>
internal abstract unsafe class TileKernels
{
    /// <summary>Rows of a strip.</summary>
    public const int Rows = 32;

    /// <summary>
    /// The most rows of an item: packing a tile of keys serves sixteen strips, whose Q and O stay in the second-level cache beside it. 1,024 rows lost 40 % at 2k tokens, causal, 16 threads.
    /// </summary>
    public const int ItemRows = 512;

    /// <summary>The least that is split off: packing for 64 rows took as long as their products.</summary>
    public const int LeastItemRows = 128;

    /// <summary>The code of the products of a pair of dimensions, by the convention of Linux, which alone is asked for tiles.</summary>
    /// <param name="keyDim">Of queries and keys.</param>
    /// <param name="valueDim">Of values.</param>
    /// <param name="tileKeys">Keys of a tile.</param>
    public static (Assembler Scores, Assembler Sums, Assembler Stages) Emit(int keyDim, int valueDim, int tileKeys)
    {
        int keyBlocks = (keyDim + 31) / 32, valueBlocks = (valueDim + 15) / 16;
        CallingConvention convention = CallingConvention.SystemV;
        return (TileScores.Emit(keyBlocks, convention), TileSums.Emit(valueBlocks, tileKeys / 32, convention), TileStages.Emit(keyBlocks, valueBlocks, tileKeys));
    }

    /// <summary>Their text.</summary>
    public static string Listing(int keyDim, int valueDim, int tileKeys)
    {
        (Assembler scores, Assembler sums, Assembler stages) = Emit(keyDim, valueDim, tileKeys);
        return $"{MachineCode.Listing.Of(stages)}\n{MachineCode.Listing.Of(scores)}\n{MachineCode.Listing.Of(sums)}";
    }

    public abstract void Scores(TileScoresBlock* block);

    public abstract void Sums(TileSumsBlock* block);

    public abstract void Stages(TileStagesBlock* block);
}

/// <summary>By the processor.</summary>
internal sealed unsafe class CompiledTileKernels(CompiledKernel scores, CompiledKernel sums, CompiledKernel stages) : TileKernels
{
    private readonly delegate* unmanaged<TileScoresBlock*, void> _scores = (delegate* unmanaged<TileScoresBlock*, void>)scores.Entry;
    private readonly delegate* unmanaged<TileSumsBlock*, void> _sums = (delegate* unmanaged<TileSumsBlock*, void>)sums.Entry;
    private readonly delegate* unmanaged<TileStagesBlock*, void> _stages = (delegate* unmanaged<TileStagesBlock*, void>)stages.Entry;

    public override void Scores(TileScoresBlock* block) => _scores(block);

    public override void Sums(TileSumsBlock* block) => _sums(block);

    public override void Stages(TileStagesBlock* block) => _stages(block);
}

/// <summary>Tile products for all dimensions: made when first asked for, and kept.</summary>
/// <param name="reason">For <c>Explain</c> and the tool: what they are.</param>
/// <param name="make">Makes those of a key and a value dimension; null where the system has no memory for code.</param>
internal sealed class TileKernelCache(string reason, Func<int, int, TileKernels?> make)
{
    private readonly ConcurrentDictionary<(int KeyDim, int ValueDim), TileKernels?> _kernels = new();
    private readonly Lock _gate = new();

    public string Reason => reason;

    /// <summary>By the processor.</summary>
    public static TileKernelCache Of(CodeHost host, int tileKeys) => new($"bfloat16 by tiles of AMX ({host.State})", (keyDim, valueDim) =>
    {
        (Assembler scores, Assembler sums, Assembler stages) = TileKernels.Emit(keyDim, valueDim, tileKeys);
        return host.Compile(scores) is { } compiledScores && host.Compile(sums) is { } compiledSums && host.Compile(stages) is { } compiledStages
            ? new CompiledTileKernels(compiledScores, compiledSums, compiledStages) : null;
    });

    /// <summary>Those of two dimensions; null where the system has no memory for code.</summary>
    public TileKernels? For(int keyDim, int valueDim)
    {
        if (_kernels.TryGetValue((keyDim, valueDim), out TileKernels? kernels)) return kernels;
        lock (_gate)
        {
            return _kernels.TryGetValue((keyDim, valueDim), out kernels) ? kernels : _kernels[(keyDim, valueDim)] = make(keyDim, valueDim);
        }
    }
}
