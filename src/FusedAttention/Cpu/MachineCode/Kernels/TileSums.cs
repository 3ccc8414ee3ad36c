namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>What a call of <see cref="TileSums"/> is about: blocks of 32 keys and a strip of 32 rows.</summary>
internal unsafe struct TileSumsBlock
{
    public TileConfiguration Configuration;

    /// <summary>The first keys' weights, bfloat16: [pairs of keys][32 rows], of a pair the even key first.</summary>
    public byte* Weights;

    /// <summary>The values of the first block of keys in tiles: [16 dims][32 keys], first all keys of 16 dims.</summary>
    public byte* Values;

    /// <summary>The strip's sums: [dims][32 rows].</summary>
    public float* Output;

    /// <summary>Blocks of 32 keys; at least one.</summary>
    public nint KeyBlocks;
}

/// <summary>O^T += V^T P^T of bfloat16 by tile products: 32 dims by 32 rows in four tiles of sums, which are loaded and stored once.</summary>
internal static unsafe class TileSums
{
    private const int TileBytes = TileScores.TileBytes;
    private const int Row = TileKernels.Rows * sizeof(float);

    /// <param name="dimBlocks">Blocks of 16 dims.</param>
    /// <param name="keyBlocks">Blocks of 32 keys that values have room for.</param>
    /// <param name="convention">How it is called.</param>
    public static Assembler Emit(int dimBlocks, int keyBlocks, CallingConvention convention)
    {
        var k = new Assembler($"bf16 tile sums, dim {16 * dimBlocks}", convention);
        TileSumsBlock fields;
        TileSumsBlock* at = &fields;
        nint start = (nint)at;
        Gpr p = k.Gpr("weights"), v = k.Gpr("values"), o = k.Gpr("output"), left = k.Gpr("left"), row = k.Gpr("tile_row"), stride = k.Gpr("stride");
        Tile[,] c = { { k.Tile("c00"), k.Tile("c01") }, { k.Tile("c10"), k.Tile("c11") } };
        Tile a0 = k.Tile("a0"), a1 = k.Tile("a1"), b0 = k.Tile("b0"), b1 = k.Tile("b1");
        Mem values = At(&at->Values, nameof(TileSumsBlock.Values)), weights = At(&at->Weights, nameof(TileSumsBlock.Weights)), blocks = At(&at->KeyBlocks, nameof(TileSumsBlock.KeyBlocks));

        k.Ldtilecfg(At(&at->Configuration, nameof(TileSumsBlock.Configuration)));
        k.Mov(o, At(&at->Output, nameof(TileSumsBlock.Output)));
        k.Mov(row, 64);
        k.Mov(stride, Row);
        for (int d = 0; d < dimBlocks; d += 2)
        {
            int height = Math.Min(2, dimBlocks - d);
            ForEachSum(d, height, (tile, place) => k.Tileloadd(tile, place));
            k.Mov(p, weights);
            k.Mov(v, values);
            if (d > 0) k.Add(v, d * keyBlocks * TileBytes);
            k.Mov(left, blocks);
            Label keys = new($"dims{16 * d}");
            k.Place(keys);
            k.Tileloadd(b0, (p + 0).Plus(stride));
            k.Tileloadd(a0, (v + 0).Plus(row));
            k.Tdpbf16ps(c[0, 0], a0, b0);
            k.Tileloadd(b1, (p + 64).Plus(stride));
            k.Tdpbf16ps(c[0, 1], a0, b1);
            if (height == 2)
            {
                k.Tileloadd(a1, (v + (keyBlocks * TileBytes)).Plus(row));
                k.Tdpbf16ps(c[1, 0], a1, b0);
                k.Tdpbf16ps(c[1, 1], a1, b1);
            }

            k.Add(p, 16 * Row);
            k.Add(v, TileBytes);
            k.Dec(left);
            k.Jne(keys);
            ForEachSum(d, height, (tile, place) => k.Tilestored(place, tile));
        }

        k.Return(releaseTiles: true);
        return k;

        void ForEachSum(int d, int height, Action<Tile, Mem> emit)
        {
            for (int i = 0; i < height; i++)
            {
                for (int r = 0; r < 2; r++) emit(c[i, r], (o + ((16 * (d + i) * Row) + (64 * r))).Plus(stride));
            }
        }

        Mem At(void* field, string name) => k.Field((int)((nint)field - start), name);
    }
}
