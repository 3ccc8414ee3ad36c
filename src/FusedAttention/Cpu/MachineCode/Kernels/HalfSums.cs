namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>What a call of <see cref="HalfSums"/> is about: some keys of a tile, all their heads, four rows of weights a head or a multiple.</summary>
internal unsafe struct HalfSumsBlock
{
    /// <summary>The addresses of the values in head 0.</summary>
    public nint* Values;
    public nint* ValuesEnd;

    /// <summary>The addresses of the tokens to ask for, one a value.</summary>
    public nint* Ahead;

    /// <summary>The first row's weight of the first key.</summary>
    public float* Weights;

    /// <summary>The first row; the others follow it, all heads together.</summary>
    public float* Output;

    /// <summary>Bytes from head 0 to the first head, and from each to the next.</summary>
    public nint Offset;
    public nint HeadStride;
    public nint AheadOffset;
    public nint AheadHeadStride;
    public nint Heads;

    /// <summary>Rows of a head, in fours.</summary>
    public nint RowBlocks;

    /// <summary>Bytes of addresses of the values that one chain takes: 8 a key.</summary>
    public nint StepBytes;

    /// <summary>Bytes of weights of the same keys: 4 a key.</summary>
    public nint StepWeightBytes;

    // From here on the kernel's own.
    public nint* StepEnd;
    public float* RowWeights;
    public nint HeadOffset;
    public nint HeadAheadOffset;
    public nint HeadsLeft;
    public nint RowBlocksLeft;
}

/// <summary>O += P V over binary16 values where they lie: four rows by four vectors of the output (AVX2: by two), each value converted once for four rows.</summary>
/// <remarks>
/// Each element of the output is one chain of multiply-adds over the keys of a step, which is then added to it, as in the intrinsics' kernel, for the same bits. AVX-512: 16 sums, 4 values and a weight in 21 of 22 registers;
/// AVX2: 8, 2 and 1 of 16.
/// </remarks>
internal static unsafe class HalfSums
{
    private const int Rows = 4;

    /// <param name="bits">Of a vector.</param>
    /// <param name="dim">Whole vectors.</param>
    /// <param name="aheadLines">Cache lines to ask for of each token ahead.</param>
    /// <param name="weightStride">Floats from a row of weights to the next.</param>
    /// <param name="convention">How it is called.</param>
    public static Assembler Emit(short bits, int dim, int aheadLines, int weightStride, CallingConvention convention)
    {
        var k = new Assembler($"fp16 sums {bits} bits, dim {dim}, {aheadLines} lines ahead", convention);

        // A block that only tells how far its fields are from its start.
        HalfSumsBlock fields;
        HalfSumsBlock* at = &fields;
        nint start = (nint)at;
        Mem values = At(&at->Values, nameof(HalfSumsBlock.Values)), valuesEnd = At(&at->ValuesEnd, nameof(HalfSumsBlock.ValuesEnd)), ahead = At(&at->Ahead, nameof(HalfSumsBlock.Ahead)), weights = At(&at->Weights, nameof(HalfSumsBlock.Weights));
        Mem output = At(&at->Output, nameof(HalfSumsBlock.Output)), offset = At(&at->Offset, nameof(HalfSumsBlock.Offset)), headStride = At(&at->HeadStride, nameof(HalfSumsBlock.HeadStride));
        Mem aheadOffset = At(&at->AheadOffset, nameof(HalfSumsBlock.AheadOffset)), aheadHeadStride = At(&at->AheadHeadStride, nameof(HalfSumsBlock.AheadHeadStride));
        Mem heads = At(&at->Heads, nameof(HalfSumsBlock.Heads)), rowBlocks = At(&at->RowBlocks, nameof(HalfSumsBlock.RowBlocks)), stepBytes = At(&at->StepBytes, nameof(HalfSumsBlock.StepBytes));
        Mem stepWeightBytes = At(&at->StepWeightBytes, nameof(HalfSumsBlock.StepWeightBytes)), stepEnd = At(&at->StepEnd, nameof(HalfSumsBlock.StepEnd)), rowWeights = At(&at->RowWeights, nameof(HalfSumsBlock.RowWeights));
        Mem headOffset = At(&at->HeadOffset, nameof(HalfSumsBlock.HeadOffset)), headAheadOffset = At(&at->HeadAheadOffset, nameof(HalfSumsBlock.HeadAheadOffset));
        Mem headsLeft = At(&at->HeadsLeft, nameof(HalfSumsBlock.HeadsLeft)), rowBlocksLeft = At(&at->RowBlocksLeft, nameof(HalfSumsBlock.RowBlocksLeft));

        int lanes = bits / 32;
        int vectors = dim / lanes;
        int width = bits == 512 ? 4 : 2;
        int blocks = (vectors + width - 1) / width;
        Gpr value = k.Gpr("value_row"), weight = k.Gpr("weight"), o = k.Gpr("output"), token = k.Gpr("ahead_row"), t = k.Gpr("t"), asked = k.Gpr("asked");
        Vec[] sums = k.Vectors(bits, "o", Rows * width);
        Vec[] converted = k.Vectors(bits, "v", width);
        Vec p = k.Vector(bits, "p");

        Label step = new("step"), whole = new("whole_step"), head = new("head"), rows = new("rows"), headEnd = new("head_end"), end = new("end");
        k.Mov(t, values);
        k.Cmp(t, valuesEnd);
        k.Jae(end);

        k.Place(step);
        k.Add(t, stepBytes);
        k.Cmp(t, valuesEnd);
        k.Jb(whole);
        k.Mov(t, valuesEnd);
        k.Place(whole);
        k.Mov(stepEnd, t);
        Copy(heads, headsLeft);
        Copy(offset, headOffset);
        Copy(aheadOffset, headAheadOffset);
        Copy(weights, rowWeights);
        k.Mov(o, output);

        k.Place(head);
        Copy(rowBlocks, rowBlocksLeft);
        RowsOfFour("first", asks: true);
        k.Place(rows);
        k.Dec(rowBlocksLeft);
        k.Je(headEnd);
        RowsOfFour("next", asks: false);
        k.Jmp(rows);

        k.Place(headEnd);
        k.Mov(t, headStride);
        AddTo(headOffset);
        k.Mov(t, aheadHeadStride);
        AddTo(headAheadOffset);
        k.Dec(headsLeft);
        k.Jne(head);

        k.Mov(t, stepBytes);
        AddTo(ahead);
        k.Mov(t, stepWeightBytes);
        AddTo(weights);
        k.Mov(t, stepEnd);
        k.Mov(values, t);
        k.Cmp(t, valuesEnd);
        k.Jb(step);
        k.Place(end);
        k.Return();
        return k;

        void RowsOfFour(string name, bool asks)
        {
            for (int block = 0; block < blocks; block++)
            {
                int first = block * width;
                Columns($"{name}_keys{block}", first, Math.Min(width, vectors - first), asks ? (block * aheadLines / blocks, (block + 1) * aheadLines / blocks) : (0, 0));
            }

            k.Add(o, Rows * dim * sizeof(float));
            k.Add(rowWeights, Rows * weightStride * sizeof(float));
        }

        // Four rows by some vectors of the output, over the keys of a step; it asks for its share of the tokens ahead.
        void Columns(string name, int first, int count, (int From, int To) lines)
        {
            for (int r = 0; r < Rows; r++)
            {
                for (int i = 0; i < count; i++) k.Zero(sums[(r * width) + i]);
            }

            Label loop = new(name);
            k.Mov(value, values);
            k.Mov(weight, rowWeights);
            if (lines.From < lines.To) k.Mov(token, ahead);
            k.Place(loop);
            k.Mov(t, value + 0);
            k.Add(t, headOffset);
            for (int i = 0; i < count; i++) k.Vcvtph2ps(converted[i], t + ((first + i) * lanes * sizeof(ushort)));
            if (lines.From < lines.To)
            {
                k.Mov(asked, token + 0);
                k.Add(asked, headAheadOffset);
                for (int line = lines.From; line < lines.To; line++) k.Prefetcht0(asked + (line * 64));
                k.Add(token, sizeof(nint));
            }

            for (int r = 0; r < Rows; r++)
            {
                k.Vbroadcastss(p, weight + (r * weightStride * sizeof(float)));
                for (int i = 0; i < count; i++) k.Vfmadd231ps(sums[(r * width) + i], p, converted[i]);
            }

            k.Add(weight, sizeof(float));
            k.Add(value, sizeof(nint));
            k.Cmp(value, stepEnd);
            k.Jb(loop);
            for (int r = 0; r < Rows; r++)
            {
                for (int i = 0; i < count; i++)
                {
                    Mem to = o + (((r * dim) + ((first + i) * lanes)) * sizeof(float));
                    k.Vaddps(sums[(r * width) + i], sums[(r * width) + i], to);
                    k.Vmovups(to, sums[(r * width) + i]);
                }
            }
        }

        Mem At(void* field, string name) => k.Field((int)((nint)field - start), name);

        void Copy(Mem from, Mem to)
        {
            k.Mov(t, from);
            k.Mov(to, t);
        }

        void AddTo(Mem field)
        {
            k.Add(t, field);
            k.Mov(field, t);
        }
    }
}
