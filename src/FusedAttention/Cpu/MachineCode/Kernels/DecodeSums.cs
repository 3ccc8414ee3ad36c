namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>What a call of <see cref="DecodeSums"/> is about: some keys of a tile, all their heads, four rows of weights a head or a multiple.</summary>
internal unsafe struct DecodeSumsBlock
{
    /// <summary>The values, and the weights in place of numbers: floats, or 16-bit integers, of which the one beyond the last key is 0.</summary>
    public DecodeWalkBlock Walk;

    /// <summary>The first row; the others follow it, all heads together: floats, or 32-bit integers as <see cref="DecodeSums.IntegerColumns"/> says.</summary>
    public void* Output;
}

/// <summary>O += P V over values of 16 or 8 bits where they lie: four rows by four vectors of the output (AVX2: by two), each value widened once for four rows.</summary>
/// <remarks>
/// Each element of the output is one chain of multiply-adds over the keys of a step, which is then added to it, as in the intrinsics' kernel, for the same bits. AVX-512: 16 sums, 4 values and a weight in 21 of 22 registers,
/// and a product of integers where there is no vpdpwssd; AVX2: 8, 2, 1 and 1 of 16. Integers go by two tokens at a time, whose elements of a column stand side by side for one instruction; their sums are exact, 128 keys of at most 32767 * 128, so that the output keeps them from
/// step to step and becomes floats once a tile.
/// </remarks>
internal static unsafe class DecodeSums
{
    private const int Rows = 4;

    /// <summary>Columns of integers that a pass over the keys takes. Sums of two vectors lie as their interleaving leaves them: in one the first, third, ... four columns, in the next the others.</summary>
    /// <param name="bits">Of a vector.</param>
    public static int IntegerColumns(int bits) => Width(bits) * bits / 32;

    /// <summary>The most columns of integers: each pass has its own text, and all together stay within 16 KB, half of what a processor keeps of instructions nearby.</summary>
    /// <param name="bits">Of a vector.</param>
    public static int MostIntegerColumns(int bits) => bits == 512 ? 768 : 288;

    /// <param name="element">Of values.</param>
    /// <param name="bits">Of a vector.</param>
    /// <param name="dim">Whole vectors; of integers whole <see cref="IntegerColumns"/>, up to <see cref="MostIntegerColumns"/>.</param>
    /// <param name="aheadLines">Cache lines to ask for of each token ahead.</param>
    /// <param name="weightStride">Weights from a row of weights to the next.</param>
    /// <param name="convention">How it is called.</param>
    public static Assembler Emit(DecodeElement element, short bits, int dim, int aheadLines, int weightStride, CallingConvention convention)
    {
        var k = new Assembler($"{DecodeElementCode.NameOf(element)} sums {bits} bits, dim {dim}, {aheadLines} lines ahead", convention);
        var of = new DecodeElementCode(k, element, bits);

        int lanes = bits / 32;
        int vectors = dim / lanes;
        int width = Width(bits);
        int blocks = (vectors + width - 1) / width;
        Gpr value = k.Gpr("value_row"), weight = k.Gpr("weight"), o = k.Gpr("output"), token = k.Gpr("ahead_row"), t = k.Gpr("t"), asked = k.Gpr("asked");
        Vec[] sums = k.Vectors(bits, "o", Rows * width);
        Vec[] converted = k.Vectors(bits, "v", width);
        Vec p = k.Vector(bits, "p");

        // A block that only tells how far its fields are from its start.
        DecodeSumsBlock fields;
        Mem output = k.Field((int)((byte*)&fields.Output - (byte*)&fields), nameof(DecodeSumsBlock.Output));
        var walk = new DecodeWalk(k, t);
        walk.Emit(() => k.Mov(o, output), RowsOfFour);
        return k;

        void RowsOfFour(string name, bool asks)
        {
            for (int block = 0; block < blocks; block++)
            {
                int first = block * width;
                (int From, int To) lines = asks ? (block * aheadLines / blocks, (block + 1) * aheadLines / blocks) : (0, 0);
                if (of.IsInteger) IntegerSums($"{name}_keys{block}", first * lanes, lines);
                else Columns($"{name}_keys{block}", first, Math.Min(width, vectors - first), lines);
            }

            k.Add(o, Rows * dim * sizeof(float));
            k.Add(walk.RowNumbers, Rows * weightStride * of.FactorBytes);
        }

        // Four rows by some vectors of the output, over the keys of a step; it asks for its share of the tokens ahead.
        void Columns(string name, int first, int count, (int From, int To) lines)
        {
            for (int r = 0; r < Rows; r++)
            {
                for (int i = 0; i < count; i++) k.Zero(sums[(r * width) + i]);
            }

            Label loop = new(name);
            k.Mov(value, walk.Tokens);
            k.Mov(weight, walk.RowNumbers);
            if (lines.From < lines.To) k.Mov(token, walk.Ahead);
            k.Place(loop);
            k.Mov(t, value + 0);
            k.Add(t, walk.HeadOffset);
            for (int i = 0; i < count; i++) k.Vcvtph2ps(converted[i], t + ((first + i) * lanes * sizeof(ushort)));
            if (lines.From < lines.To)
            {
                k.Mov(asked, token + 0);
                k.Add(asked, walk.HeadAheadOffset);
                for (int line = lines.From; line < lines.To; line++) k.Prefetcht1(asked + (line * 64));
                k.Add(token, sizeof(nint));
            }

            for (int r = 0; r < Rows; r++)
            {
                k.Vbroadcastss(p, weight + (r * weightStride * sizeof(float)));
                for (int i = 0; i < count; i++) k.Vfmadd231ps(sums[(r * width) + i], p, converted[i]);
            }

            k.Add(weight, sizeof(float));
            k.Add(value, sizeof(nint));
            k.Cmp(value, walk.StepEnd);
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

        // Four rows by 64 columns, over pairs of keys.
        void IntegerSums(string name, int first, (int From, int To) lines)
        {
            for (int i = 0; i < sums.Length; i++) k.Vmovups(sums[i], Sum(i));
            Label loop = new(name);
            k.Mov(value, walk.Tokens);
            k.Mov(weight, walk.RowNumbers);
            if (lines.From < lines.To) k.Mov(token, walk.Ahead);
            k.Place(loop);
            k.Mov(t, value + 0);
            k.Add(t, walk.HeadOffset);
            k.Mov(asked, value + sizeof(nint));
            k.Add(asked, walk.HeadOffset);
            for (int i = 0; i < width; i += 2)
            {
                of.Widen(converted[i + 1], t + (first + (i * lanes)));
                of.Widen(p, asked + (first + (i * lanes)));
                k.Vpunpcklwd(converted[i], converted[i + 1], p);
                k.Vpunpckhwd(converted[i + 1], converted[i + 1], p);
            }

            for (int i = 0; i < 2 && lines.From < lines.To; i++)
            {
                k.Mov(asked, token + (i * sizeof(nint)));
                k.Add(asked, walk.HeadAheadOffset);
                for (int line = lines.From; line < lines.To; line++) k.Prefetcht1(asked + (line * 64));
            }

            if (lines.From < lines.To) k.Add(token, 2 * sizeof(nint));
            for (int r = 0; r < Rows; r++)
            {
                k.Vpbroadcastd(p, weight + (r * weightStride * of.FactorBytes));
                for (int i = 0; i < width; i++) of.MultiplyAdd(sums[(r * width) + i], p, converted[i]);
            }

            k.Add(weight, 2 * of.FactorBytes);
            k.Add(value, 2 * sizeof(nint));
            k.Cmp(value, walk.StepEnd);
            k.Jb(loop);
            for (int i = 0; i < sums.Length; i++) k.Vmovups(Sum(i), sums[i]);

            Mem Sum(int i) => o + (((i / width * dim) + first + (i % width * lanes)) * sizeof(int));
        }
    }

    // Vectors of sums in a row.
    private static int Width(int bits) => bits == 512 ? 4 : 2;
}
