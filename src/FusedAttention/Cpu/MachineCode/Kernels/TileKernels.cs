namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>The tile products of one pair of dimensions, however they are run: by the processor, or in tests by something else.</summary>
internal abstract unsafe class TileKernels
{
    /// <summary>Rows of a strip.</summary>
    public const int Rows = 32;

    /// <summary>The code of the products of a pair of dimensions.</summary>
    /// <param name="keyDim">Of queries and keys.</param>
    /// <param name="valueDim">Of values.</param>
    /// <param name="tileKeys">Keys of a tile: floats of a row of scores.</param>
    /// <param name="convention">How they are called.</param>
    public static (Assembler Scores, Assembler Sums) Emit(int keyDim, int valueDim, int tileKeys, CallingConvention convention) =>
        (TileScores.Emit((keyDim + 31) / 32, tileKeys, convention), TileSums.Emit((valueDim + 15) / 16, tileKeys / 32, tileKeys * sizeof(float), (valueDim + 31) / 32 * 32, convention));

    public abstract void Scores(TileScoresBlock* block);

    public abstract void Sums(TileSumsBlock* block);
}

/// <summary>By the processor.</summary>
internal sealed unsafe class CompiledTileKernels(CompiledKernel scores, CompiledKernel sums) : TileKernels
{
    private readonly delegate* unmanaged<TileScoresBlock*, void> _scores = (delegate* unmanaged<TileScoresBlock*, void>)scores.Entry;
    private readonly delegate* unmanaged<TileSumsBlock*, void> _sums = (delegate* unmanaged<TileSumsBlock*, void>)sums.Entry;

    public override void Scores(TileScoresBlock* block) => _scores(block);

    public override void Sums(TileSumsBlock* block) => _sums(block);
}
