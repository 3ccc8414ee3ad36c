namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>How tile registers are configured: all eight of 16 rows of 64 bytes.</summary>
internal unsafe struct TileConfiguration
{
    public const int Bytes = 64;
    private const int Tiles = 8;
    private const int Rows = 16;
    private const int RowBytes = 64;

    private fixed byte _bytes[Bytes];

    public static TileConfiguration Whole
    {
        get
        {
            // Palette 1; from byte 16 on bytes of a row, 16 bits a tile, from byte 48 on rows.
            TileConfiguration whole = default;
            whole._bytes[0] = 1;
            for (int i = 0; i < Tiles; i++)
            {
                whole._bytes[16 + (2 * i)] = RowBytes;
                whole._bytes[48 + i] = Rows;
            }

            return whole;
        }
    }
}

/// <summary>What a call of <see cref="TileScores"/> is about: blocks of 32 keys and a strip of 32 rows.</summary>
internal unsafe struct TileScoresBlock
{
    public TileConfiguration Configuration;

    /// <summary>The strip's rows in tiles: [16 pairs of dims][16 rows], first all dims of 16 rows.</summary>
    public byte* Query;

    /// <summary>The keys in tiles: [16 keys][32 dims], first all dims of 16 keys.</summary>
    public byte* Keys;

    /// <summary>The first key's place: [keys][32 rows].</summary>
    public float* Scores;

    /// <summary>Blocks of 32 keys; at least one.</summary>
    public nint KeyBlocks;
}

/// <summary>S^T = K Q^T of bfloat16 by tile products: 32 keys by 32 rows in four tiles of sums, two tiles of K and two of Q a step of 32 dims. Transposed, so that a vector is one key of 16 rows.</summary>
internal static unsafe class TileScores
{
    /// <summary>Bytes of a tile.</summary>
    public const int TileBytes = 1024;

    /// <param name="dimBlocks">Blocks of 32 dims.</param>
    /// <param name="convention">How it is called.</param>
    public static Assembler Emit(int dimBlocks, CallingConvention convention)
    {
        var k = new Assembler($"bf16 tile scores, dim {32 * dimBlocks}", convention);
        TileScoresBlock fields;
        TileScoresBlock* at = &fields;
        nint start = (nint)at;
        Gpr q = k.Gpr("query"), key = k.Gpr("keys"), s = k.Gpr("scores"), left = k.Gpr("left"), row = k.Gpr("tile_row"), scoreRow = k.Gpr("score_row");
        Tile c00 = k.Tile("c00"), c01 = k.Tile("c01"), c10 = k.Tile("c10"), c11 = k.Tile("c11"), a0 = k.Tile("a0"), a1 = k.Tile("a1"), b0 = k.Tile("b0"), b1 = k.Tile("b1");
        const int ScoreRow = TileKernels.Rows * sizeof(float);

        k.Ldtilecfg(At(&at->Configuration, nameof(TileScoresBlock.Configuration)));
        k.Mov(q, At(&at->Query, nameof(TileScoresBlock.Query)));
        k.Mov(key, At(&at->Keys, nameof(TileScoresBlock.Keys)));
        k.Mov(s, At(&at->Scores, nameof(TileScoresBlock.Scores)));
        k.Mov(left, At(&at->KeyBlocks, nameof(TileScoresBlock.KeyBlocks)));
        k.Mov(row, 64);
        k.Mov(scoreRow, ScoreRow);
        Label block = new("block");
        k.Place(block);
        foreach (Tile c in (Tile[])[c00, c01, c10, c11]) k.Tilezero(c);
        for (int d = 0; d < dimBlocks; d++)
        {
            k.Tileloadd(b0, (q + (d * TileBytes)).Plus(row));
            k.Tileloadd(a0, (key + (d * TileBytes)).Plus(row));
            k.Tdpbf16ps(c00, a0, b0);
            k.Tileloadd(b1, (q + ((dimBlocks + d) * TileBytes)).Plus(row));
            k.Tdpbf16ps(c01, a0, b1);
            k.Tileloadd(a1, (key + ((dimBlocks + d) * TileBytes)).Plus(row));
            k.Tdpbf16ps(c10, a1, b0);
            k.Tdpbf16ps(c11, a1, b1);
        }

        k.Tilestored((s + 0).Plus(scoreRow), c00);
        k.Tilestored((s + 64).Plus(scoreRow), c01);
        k.Tilestored((s + (16 * ScoreRow)).Plus(scoreRow), c10);
        k.Tilestored((s + ((16 * ScoreRow) + 64)).Plus(scoreRow), c11);
        k.Add(key, 2 * dimBlocks * TileBytes);
        k.Add(s, 32 * ScoreRow);
        k.Dec(left);
        k.Jne(block);
        k.Return(releaseTiles: true);
        return k;

        Mem At(void* field, string name) => k.Field((int)((nint)field - start), name);
    }
}
