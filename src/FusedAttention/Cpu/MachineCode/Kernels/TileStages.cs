namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>A strip of 32 rows and 128 keys that all its rows see.</summary>
internal unsafe struct TileStage
{
    /// <summary>For each row what is added to a score times the factor: minus its offset.</summary>
    public fixed float Offsets[TileKernels.Rows];

    /// <summary>Receives for each row the sum of its rounded weights.</summary>
    public fixed float Sums[TileKernels.Rows];

    /// <summary>As those of <see cref="TileScoresBlock"/> and <see cref="TileSumsBlock"/>.</summary>
    public byte* Query;
    public byte* Keys;
    public byte* Values;
    public byte* Output;

    /// <summary>Room for weights: another one than that of the stage before.</summary>
    public byte* Weights;

    /// <summary>Addresses in head 0 of 16 keys that are asked for meanwhile, and a tile of keys behind them of as many values.</summary>
    public nint* Ahead;

    /// <summary>The caller's: which strip.</summary>
    public long Strip;

    /// <summary>The caller's: its first key, relative to the tile.</summary>
    public long First;
}

/// <summary>What a call of <see cref="TileStages"/> is about.</summary>
internal unsafe struct TileStagesBlock
{
    /// <summary>Floats of two blocks of scores.</summary>
    private const int RingFloats = 2 * 32 * TileKernels.Rows;

    public TileConfiguration Configuration;

    /// <summary>Scores on their way to weights.</summary>
    public fixed float Ring[RingFloats];

    /// <summary>The stages. Behind the last one another is read, whose <see cref="TileStage.Query"/> and <see cref="TileStage.Keys"/> have to be somewhere.</summary>
    public TileStage* Stages;

    public TileStage* End;

    /// <summary>Receives the first stage that was not done, because it has a score that exceeds its row's offset by too much; the end if all are done.</summary>
    public TileStage* Reached;

    /// <summary>What makes a score an exponent of 2.</summary>
    public float Factor;

    public float LargestExponent;
    public float C1;
    public float C2;
    public float C3;
    public float One;
    public int Half;
    public int UpperHalf;

    /// <summary>Bytes from a row of head 0 to that of the head: keys and values.</summary>
    public nint KeyOffset;
    public nint ValueOffset;

    public void Set(float factor, float largestExponent)
    {
        (Configuration, Factor, LargestExponent) = (TileConfiguration.Whole, factor, largestExponent);
        (C1, C2, C3, One, Half, UpperHalf) = (TileExponential.C1, TileExponential.C2, TileExponential.C3, 1, 0x8000, unchecked((int)0xFFFF0000));
    }
}

/// <summary>
/// Whole stages, of which nothing is to be hidden: while tiles multiply, the vector units make weights of scores. In each quarter of a stage the products are those of the scores of the next 32 keys and of a quarter of the
/// dims of the stage before, the softmax that of 32 keys between them.
/// </summary>
/// <remarks>The arithmetic of a row is that of TileSoftmax, operation by operation. Its 30 vector registers and 9 general ones are what System V leaves; other conventions have no such kernel.</remarks>
internal static unsafe class TileStages
{
    /// <summary>Keys of a stage.</summary>
    public const int Keys = 128;

    /// <summary>Keys of the next tile that a stage asks for, and values: eight strips of two stages ask for all of a tile.</summary>
    public const int KeysAhead = 16;

    /// <summary>Bytes of a stage's weights.</summary>
    public const int WeightBytes = Keys / 2 * Row;

    private const int TileBytes = TileScores.TileBytes;
    private const int Slots = 4;
    private const int Row = TileKernels.Rows * sizeof(float);
    private const int BlockBytes = 32 * Row;

    /// <param name="keyBlocks">Blocks of 32 dims of queries and keys.</param>
    /// <param name="valueBlocks">Blocks of 16 dims of values.</param>
    /// <param name="tileKeys">Keys that values have room for.</param>
    public static Assembler Emit(int keyBlocks, int valueBlocks, int tileKeys)
    {
        // For the places of their fields.
        TileStage stage;
        TileStagesBlock block;
        var emitter = new Emitter(&stage, &block, new($"bf16 tile stages, dims {32 * keyBlocks} and {16 * valueBlocks}", CallingConvention.SystemV), keyBlocks, valueBlocks, tileKeys);
        emitter.Kernel();
        return emitter.Code;
    }

    private sealed class Emitter
    {
        private readonly TileStage* _atStage;
        private readonly TileStagesBlock* _atBlock;
        private readonly Assembler _k;
        private readonly int _keyBlocks;
        private readonly int _valueBlocks;
        private readonly int _tileKeys;
        private readonly Gpr _row;

        // The rows and columns of a product's factors: K and Q for scores, V for sums.
        private readonly Gpr _left;
        private readonly Gpr _right;
        private readonly Gpr _weights;
        private readonly Gpr _before;
        private readonly Gpr _stage;
        private readonly Gpr _list;
        private readonly Gpr _ahead;
        private readonly Tile[,] _c;
        private readonly Tile _a0;
        private readonly Tile _a1;
        private readonly Tile _b0;
        private readonly Tile _b1;
        private readonly Vec _factor;
        private readonly Vec _c1;
        private readonly Vec _c2;
        private readonly Vec _c3;
        private readonly Vec _one;
        private readonly Vec _half;
        private readonly Vec _upperHalf;
        private readonly Vec[] _offset;
        private readonly Vec[] _max;
        private readonly Vec[] _even;
        private readonly Vec[] _odd;
        private readonly Vec[] _free;
        private int _units;

        public Emitter(TileStage* atStage, TileStagesBlock* atBlock, Assembler k, int keyBlocks, int valueBlocks, int tileKeys)
        {
            _atStage = atStage;
            _atBlock = atBlock;
            (_k, _keyBlocks, _valueBlocks, _tileKeys) = (k, keyBlocks, valueBlocks, tileKeys);
            (_row, _left, _right, _weights) = (k.Gpr("tile_row"), k.Gpr("left"), k.Gpr("right"), k.Gpr("weights"));
            (_before, _stage, _list, _ahead) = (k.Gpr("before"), k.Gpr("stage"), k.Gpr("list"), k.Gpr("ahead"));
            _c = new[,] { { k.Tile("c00"), k.Tile("c01") }, { k.Tile("c10"), k.Tile("c11") } };
            (_a0, _a1, _b0, _b1) = (k.Tile("a0"), k.Tile("a1"), k.Tile("b0"), k.Tile("b1"));
            (_factor, _c1, _c2, _c3, _one) = (k.Vector(512, "factor"), k.Vector(512, "c1"), k.Vector(512, "c2"), k.Vector(512, "c3"), k.Vector(512, "one"));
            (_half, _upperHalf) = (k.Vector(512, "half"), k.Vector(512, "upper_half"));
            (_offset, _max, _even, _odd) = (k.Vectors(512, "offset", 2), k.Vectors(512, "max", 2), k.Vectors(512, "even", 2), k.Vectors(512, "odd", 2));

            // Three sets of five: what a unit writes is not what the one before still reads.
            _free = k.Vectors(512, "x", 15);
        }

        public Assembler Code => _k;

        private static int StageBytes => sizeof(TileStage);

        private Mem StageKeys => Stage(&_atStage->Keys, nameof(TileStage.Keys));

        private Mem StageQuery => Stage(&_atStage->Query, nameof(TileStage.Query));

        private Mem StageValues => Stage(&_atStage->Values, nameof(TileStage.Values));

        private Mem StageOutput => Stage(&_atStage->Output, nameof(TileStage.Output));

        private Mem StageWeights => Stage(&_atStage->Weights, nameof(TileStage.Weights));

        private Mem KeyOffset => Block(&_atBlock->KeyOffset, nameof(TileStagesBlock.KeyOffset));

        private Mem ValueOffset => Block(&_atBlock->ValueOffset, nameof(TileStagesBlock.ValueOffset));

        public void Kernel()
        {
            Label next = new("next_stage"), done = new("done"), end = new("end");
            _k.Ldtilecfg(Block(&_atBlock->Configuration, nameof(TileStagesBlock.Configuration)));
            _k.Vbroadcastss(_factor, Block(&_atBlock->Factor, nameof(TileStagesBlock.Factor)));
            _k.Vbroadcastss(_c1, Block(&_atBlock->C1, nameof(TileStagesBlock.C1)));
            _k.Vbroadcastss(_c2, Block(&_atBlock->C2, nameof(TileStagesBlock.C2)));
            _k.Vbroadcastss(_c3, Block(&_atBlock->C3, nameof(TileStagesBlock.C3)));
            _k.Vbroadcastss(_one, Block(&_atBlock->One, nameof(TileStagesBlock.One)));
            _k.Vbroadcastss(_half, Block(&_atBlock->Half, nameof(TileStagesBlock.Half)));
            _k.Vbroadcastss(_upperHalf, Block(&_atBlock->UpperHalf, nameof(TileStagesBlock.UpperHalf)));
            _k.Mov(_row, 64);
            _k.Mov(_stage, Block(&_atBlock->Stages, nameof(TileStagesBlock.Stages)));
            foreach (Action step in ScoresOf(0, isNext: false)) step();

            // The first stage has none before it.
            Stage(hasStageBefore: false, end);
            _k.Cmp(_stage, Block(&_atBlock->End, nameof(TileStagesBlock.End)));
            _k.Jae(done);
            _k.Place(next);
            Stage(hasStageBefore: true, end);
            _k.Cmp(_stage, Block(&_atBlock->End, nameof(TileStagesBlock.End)));
            _k.Jb(next);

            _k.Place(done);
            for (int slot = 0; slot < Slots; slot++)
            {
                foreach (Action step in SumsOf(slot)) step();
            }

            _k.Place(end);
            _k.Mov(Block(&_atBlock->Reached, nameof(TileStagesBlock.Reached)), _stage);
            _k.Return(releaseTiles: true);
        }

        /// <summary>A stage's softmax, with the products that go with it. Leaves the register of the stage at the next one.</summary>
        private void Stage(bool hasStageBefore, Label exceeds)
        {
            _k.Mov(_weights, Stage(&_atStage->Weights, nameof(TileStage.Weights)));
            _k.Mov(_list, Stage(&_atStage->Ahead, nameof(TileStage.Ahead)));
            for (int half = 0; half < 2; half++)
            {
                _k.Vmovups(_offset[half], Stage(_atStage->Offsets, nameof(TileStage.Offsets)) + (64 * half));
                _k.Zero(_even[half]);
                _k.Zero(_odd[half]);

                // The largest exponent, from one on that does not exceed.
                _k.Zero(_max[half]);
            }

            for (int slot = 0; slot < Slots; slot++)
            {
                List<Action> products = [.. ScoresOf((slot + 1) % Slots, isNext: slot == Slots - 1), .. hasStageBefore ? SumsOf(slot) : []];
                List<Action> softmax = [.. SoftmaxOf(slot)];
                List<Action> ahead = [.. AheadOf(slot)];
                Weave(products, softmax, ahead);
            }

            _k.Vbroadcastss(_free[0], Block(&_atBlock->LargestExponent, nameof(TileStagesBlock.LargestExponent)));
            KMask first = new(1, "exceeds0"), second = new(2, "exceeds1");
            const int GreaterThan = 0x1E;
            _k.Vcmpps(first, _max[0], _free[0], GreaterThan);
            _k.Vcmpps(second, _max[1], _free[0], GreaterThan);
            _k.Kortestw(first, second);
            _k.Jne(exceeds);
            for (int half = 0; half < 2; half++)
            {
                _k.Vaddps(_even[half], _even[half], _odd[half]);
                _k.Vmovups(Stage(_atStage->Sums, nameof(TileStage.Sums)) + (64 * half), _even[half]);
            }

            _k.Add(_stage, sizeof(TileStage));
        }

        /// <summary>Emits what tiles do, and between it as evenly as possible what vectors and prefetching do.</summary>
        private static void Weave(List<Action> products, List<Action> softmax, List<Action> ahead)
        {
            int vectors = 0, asked = 0;
            for (int i = 0; i < products.Count; i++)
            {
                products[i]();
                for (; vectors < softmax.Count * (i + 1) / products.Count; vectors++) softmax[vectors]();
                for (; asked < ahead.Count * (i + 1) / products.Count; asked++) ahead[asked]();
            }
        }

        /// <summary>The scores of 32 keys of this stage, or of the first of the next, to the ring.</summary>
        private IEnumerable<Action> ScoresOf(int block, bool isNext)
        {
            int later = isNext ? StageBytes : 0;
            int keys = block * 2 * _keyBlocks * TileBytes;
            yield return () =>
            {
                _k.Mov(_left, StageKeys + later);
                _k.Mov(_right, StageQuery + later);
                foreach (Tile c in _c) _k.Tilezero(c);
            };
            for (int i = 0; i < _keyBlocks; i++)
            {
                int d = i;
                yield return () =>
                {
                    _k.Tileloadd(_b0, (_right + (d * TileBytes)).Plus(_row));
                    _k.Tileloadd(_a0, (_left + (keys + (d * TileBytes))).Plus(_row));
                    _k.Tdpbf16ps(_c[0, 0], _a0, _b0);
                };
                yield return () =>
                {
                    _k.Tileloadd(_b1, (_right + ((_keyBlocks + d) * TileBytes)).Plus(_row));
                    _k.Tdpbf16ps(_c[0, 1], _a0, _b1);
                };
                yield return () =>
                {
                    _k.Tileloadd(_a1, (_left + (keys + ((_keyBlocks + d) * TileBytes))).Plus(_row));
                    _k.Tdpbf16ps(_c[1, 0], _a1, _b0);
                };
                yield return () => _k.Tdpbf16ps(_c[1, 1], _a1, _b1);
            }

            for (int i = 0; i < 4; i++)
            {
                (int a, int b) = (i / 2, i % 2);
                yield return () => _k.Tilestored((Ring(block) + ((16 * a * Row) + (64 * b))).Plus(_row, 2), _c[a, b]);
            }
        }

        /// <summary>A quarter of the dims of the stage before: O^T += V^T P^T.</summary>
        private IEnumerable<Action> SumsOf(int slot)
        {
            int pairs = (_valueBlocks + 1) / 2;
            for (int pair = pairs * slot / Slots; pair < pairs * (slot + 1) / Slots; pair++)
            {
                int d = 2 * pair, height = Math.Min(2, _valueBlocks - d), valueBytes = _tileKeys / 32 * TileBytes;
                yield return () =>
                {
                    _k.Mov(_left, StageValues + -StageBytes);
                    _k.Mov(_right, StageOutput + -StageBytes);
                    _k.Mov(_before, StageWeights + -StageBytes);
                };
                for (int i = 0; i < 2 * height; i++)
                {
                    (int a, int b) = (i / 2, i % 2);
                    yield return () => _k.Tileloadd(_c[a, b], Sum(d + a, b));
                }

                for (int step = 0; step < Keys / 32; step++)
                {
                    int s = step;
                    yield return () =>
                    {
                        _k.Tileloadd(_b0, (_before + (s * 16 * Row)).Plus(_row, 2));
                        _k.Tileloadd(_a0, (_left + ((d * valueBytes) + (s * TileBytes))).Plus(_row));
                        _k.Tdpbf16ps(_c[0, 0], _a0, _b0);
                    };
                    yield return () =>
                    {
                        _k.Tileloadd(_b1, (_before + ((s * 16 * Row) + 64)).Plus(_row, 2));
                        _k.Tdpbf16ps(_c[0, 1], _a0, _b1);
                    };
                    if (height == 1) continue;
                    yield return () =>
                    {
                        _k.Tileloadd(_a1, (_left + (((d + 1) * valueBytes) + (s * TileBytes))).Plus(_row));
                        _k.Tdpbf16ps(_c[1, 0], _a1, _b0);
                    };
                    yield return () => _k.Tdpbf16ps(_c[1, 1], _a1, _b1);
                }

                for (int i = 0; i < 2 * height; i++)
                {
                    (int a, int b) = (i / 2, i % 2);
                    yield return () => _k.Tilestored(Sum(d + a, b), _c[a, b]);
                }
            }

            Mem Sum(int block, int half) => (_right + ((16 * block * Row) + (64 * half))).Plus(_row, 2);
        }

        /// <summary>The weights of 32 keys: a unit is a pair of keys of 16 rows.</summary>
        private IEnumerable<Action> SoftmaxOf(int slot)
        {
            for (int pair = 0; pair < 16; pair++)
            {
                for (int half = 0; half < 2; half++)
                {
                    (int p, int h) = (pair, half);
                    yield return () => Weights(Ring(slot) + ((2 * p * Row) + (64 * h)), (_weights + ((((slot * 16) + p) * Row) + (64 * h))), h);
                }
            }
        }

        private void Weights(Mem scores, Mem weights, int half)
        {
            int set = 5 * (_units++ % 3);
            (Vec t0, Vec t1, Vec p0, Vec p1, Vec f) = (_free[set], _free[set + 1], _free[set + 2], _free[set + 3], _free[set + 4]);
            Weight(t0, p0, f, scores, half);
            Weight(t1, p1, f, scores + Row, half);
            _k.Vpandd(p0, p0, _upperHalf);
            _k.Vpandd(p1, p1, _upperHalf);
            _k.Vaddps(_even[half], _even[half], p0);
            _k.Vaddps(_odd[half], _odd[half], p1);
            _k.Vpsrld(p0, p0, 16);
            _k.Vpord(p0, p0, p1);
            _k.Vmovups(weights, p0);
        }

        private void Weight(Vec t, Vec p, Vec f, Mem score, int half)
        {
            _k.Vmovups(t, score);
            _k.Vfmadd213ps(t, _factor, _offset[half]);

            // As integers, whose order from 0 on is the same: while tiles multiply, floats have one port.
            _k.Vpmaxsd(_max[half], _max[half], t);
            _k.Vreduceps(f, t, 1);
            _k.Vmovaps(p, _c3);
            _k.Vfmadd213ps(p, f, _c2);
            _k.Vfmadd213ps(p, f, _c1);
            _k.Vfmadd213ps(p, f, _one);
            _k.Vscalefps(p, p, t);
            _k.Vpaddd(p, p, _half);
        }

        /// <summary>An eighth of the list's keys and values of a stage, line by line.</summary>
        private IEnumerable<Action> AheadOf(int slot)
        {
            const int Rows = 4;
            for (int i = 0; i < Rows; i++)
            {
                int row = (slot * Rows) + i;
                for (int side = 0; side < 2; side++)
                {
                    (int lines, Mem offset, int place) = side == 0 ? (_keyBlocks, KeyOffset, row) : ((_valueBlocks + 1) / 2, ValueOffset, row + _tileKeys);
                    yield return () =>
                    {
                        _k.Mov(_ahead, _list + (place * 8));
                        _k.Add(_ahead, offset);
                    };
                    for (int line = 0; line < lines; line++)
                    {
                        int l = line;
                        yield return () => _k.Prefetcht1(_ahead + (64 * l));
                    }
                }
            }
        }

        private Mem Ring(int block) => Block(_atBlock->Ring, nameof(TileStagesBlock.Ring)) + (block % 2 * BlockBytes);

        private Mem Block(void* field, string name) => _k.Field((int)((byte*)field - (byte*)_atBlock), name);

        private Mem Stage(void* field, string name) => new(_stage, (int)((byte*)field - (byte*)_atStage), $"[stage.{name}]");
    }
}
