namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>What a call of <see cref="DecodeScores"/> is about: some keys of a tile, all their heads, four query rows a head or a multiple.</summary>
internal unsafe struct DecodeScoresBlock
{
    /// <summary>The keys, and the scores in place of numbers.</summary>
    public DecodeWalkBlock Walk;

    /// <summary>The first row; the others follow it, all heads together: floats, or 16-bit integers.</summary>
    public void* Query;

    /// <summary>What sums of integers are multiplied with: for each four rows a vector, a fourth of it for each.</summary>
    public float* Factors;

    // From here on the kernel's own.
    public nint* ProductKeys;
    public nint* ProductAhead;
    public float* ProductScores;
    public float* RowFactors;
    public nint DimsLeft;
}

/// <summary>
/// S = Q K^T over keys of 16 or 8 bits where they lie: four rows by four keys, each key widened once for four rows.
/// </summary>
/// <remarks>
/// Each sum is one chain of multiply-adds over the dimension and one fixed sum over lanes, as in the intrinsics' kernel, for the same bits. AVX-512: 16 sums, 4 keys and a query in 21 of 22 registers that no caller keeps, and a product of
/// integers where there is no vpdpwssd; AVX2: the keys two by two, 8 sums, 2 keys, a query, the first two keys' result and a product in 13 of 16. Conversion is one instruction of two steps, where widening by shift and mask is three and a look for infinities besides.
/// Sums of integers are exact: 2 products of at most 32767 * 128 a step and lane, and the lanes too up to a dimension of 512.
/// </remarks>
internal static unsafe class DecodeScores
{
    private const int Rows = 4;
    private const int Keys = 4;

    // Steps of a vector that stand one after the other; a longer dimension loops over them.
    private const int MaxSteps = 16;

    // Products of at most 32767 * 128 whose sum is a 32-bit integer; the lanes of more are added as floats.
    private const int MaxIntegerSum = 512;

    /// <param name="element">Of keys.</param>
    /// <param name="bits">Of a vector.</param>
    /// <param name="dim">Whole vectors.</param>
    /// <param name="aheadLines">Cache lines to ask for of each token ahead.</param>
    /// <param name="scoreStride">Floats from a row of scores to the next.</param>
    /// <param name="convention">How it is called.</param>
    public static Assembler Emit(DecodeElement element, short bits, int dim, int aheadLines, int scoreStride, CallingConvention convention)
    {
        var k = new Assembler($"{DecodeElementCode.NameOf(element)} scores {bits} bits, dim {dim}, {aheadLines} lines ahead", convention);
        var of = new DecodeElementCode(k, element, bits);

        // A block that only tells how far its fields are from its start.
        DecodeScoresBlock fields;
        DecodeScoresBlock* at = &fields;
        nint start = (nint)at;
        Mem query = At(&at->Query, nameof(DecodeScoresBlock.Query)), factors = At(&at->Factors, nameof(DecodeScoresBlock.Factors));
        Mem productKeys = At(&at->ProductKeys, nameof(DecodeScoresBlock.ProductKeys)), productAhead = At(&at->ProductAhead, nameof(DecodeScoresBlock.ProductAhead)), productScores = At(&at->ProductScores, nameof(DecodeScoresBlock.ProductScores));
        Mem rowFactors = At(&at->RowFactors, nameof(DecodeScoresBlock.RowFactors)), dimsLeft = At(&at->DimsLeft, nameof(DecodeScoresBlock.DimsLeft));

        bool addsIntegers = of.IsInteger && dim <= MaxIntegerSum;
        int lanes = of.Lanes;
        int queryStride = dim * of.FactorBytes;
        Gpr[] key = [k.Gpr("key0"), k.Gpr("key1"), k.Gpr("key2"), k.Gpr("key3")];
        Gpr q = k.Gpr("query"), t = k.Gpr("t");
        int keysAtOnce = bits == 512 ? Keys : 2;
        Vec[] sums = k.Vectors(bits, "s", Rows * keysAtOnce);
        Vec[] converted = k.Vectors(bits, "k", keysAtOnce);
        Vec row = k.Vector(bits, "q");
        Vec? firstPair = bits == 512 ? null : k.Vector(bits, "s01");

        var walk = new DecodeWalk(k, t);
        walk.Emit(
            () =>
            {
                if (of.IsInteger) walk.Copy(factors, rowFactors);
                k.Mov(q, query);
            },
            RowsOfFour);
        return k;

        // Four rows by the keys of a step, four keys at a time.
        void RowsOfFour(string name, bool asks)
        {
            walk.Copy(walk.Tokens, productKeys);
            if (asks) walk.Copy(walk.Ahead, productAhead);
            walk.Copy(walk.RowNumbers, productScores);
            Label product = new($"{name}_product");
            k.Place(product);
            k.Mov(t, productKeys);
            for (int i = 0; i < Keys; i++) k.Mov(key[i], t + (i * sizeof(nint)));
            for (int i = 0; i < Keys; i++) k.Add(key[i], walk.HeadOffset);
            for (int first = 0; first < Keys; first += keysAtOnce)
            {
                foreach (Vec sum in sums) k.Zero(sum);
                Dims($"{name}_dims{first}", first, asks);
                if (bits == 512) StoreSums512();
                else if (first == 0) Sums256(firstPair!.Value);
                else StoreSums256();
            }

            k.Add(productScores, Keys * sizeof(float));
            if (asks) k.Add(productAhead, Keys * sizeof(nint));
            k.Mov(t, productKeys);
            k.Add(t, Keys * sizeof(nint));
            k.Mov(productKeys, t);
            k.Cmp(t, walk.StepEnd);
            k.Jb(product);
            k.Add(q, Rows * queryStride);
            k.Add(walk.RowNumbers, Rows * scoreStride * sizeof(float));
            if (of.IsInteger) k.Add(rowFactors, bits / 8);
        }

        // The chains over the dimension, and between their steps the requests for tokens ahead.
        void Dims(string name, int first, bool asks)
        {
            int all = dim / lanes;
            int steps = Enumerable.Range(1, MaxSteps).Last(n => all % n == 0);
            bool loops = steps < all;
            var requests = new Queue<(int Token, int Line)>(asks ? Requests(first) : []);
            int stepsLeft = loops ? 1 : steps;
            Label loop = new(name);
            if (loops)
            {
                while (requests.TryDequeue(out (int Token, int Line) request)) Ask(request);
                k.Mov(dimsLeft, all / steps);
                k.Place(loop);
            }

            for (int s = 0; s < steps; s++)
            {
                for (int i = 0; i < keysAtOnce; i++) of.Widen(converted[i], key[first + i] + (s * lanes * of.Bytes));
                for (int r = 0; r < Rows; r++)
                {
                    k.Vmovups(row, q + ((r * queryStride) + (s * lanes * of.FactorBytes)));
                    for (int i = 0; i < keysAtOnce; i++) of.MultiplyAdd(sums[(r * keysAtOnce) + i], row, converted[i]);
                }

                for (int due = (requests.Count + stepsLeft - 1) / stepsLeft; due > 0; due--) Ask(requests.Dequeue());
                stepsLeft = Math.Max(1, stepsLeft - 1);
            }

            if (!loops) return;
            for (int i = 0; i < keysAtOnce; i++) k.Add(key[first + i], steps * lanes * of.Bytes);
            k.Add(q, steps * lanes * of.FactorBytes);
            k.Dec(dimsLeft);
            k.Jne(loop);
            k.Sub(q, queryStride);
        }

        IEnumerable<(int Token, int Line)> Requests(int first)
        {
            for (int i = first; i < first + keysAtOnce; i++)
            {
                for (int line = 0; line < aheadLines; line++) yield return (i, line);
            }
        }

        void Ask((int Token, int Line) request)
        {
            if (request.Line == 0)
            {
                k.Mov(t, productAhead);
                k.Mov(t, t + (request.Token * sizeof(nint)));
                k.Add(t, walk.HeadAheadOffset);
            }

            k.Prefetcht1(t + (request.Line * 64));
        }

        // Halves, then neighbours, then pairs of neighbours, then the two quarters that are left: in the end a row's four keys are side by side.
        void StoreSums512()
        {
            for (int i = 0; of.IsInteger && !addsIntegers && i < Rows * Keys; i++) k.Vcvtdq2ps(sums[i], sums[i]);
            for (int i = 0; i < Rows * Keys; i += 2 * Keys)
            {
                for (int j = 0; j < Keys; j++) AddLanes(sums[i + j], sums[i + Keys + j], 0x44, 0xEE, k.Vshuff32x4);
                for (int j = 0; j < Keys; j += 2) AddLanes(sums[i + j], sums[i + j + 1], 0x88, 0xDD, k.Vshufps);
                AddLanes(sums[i], sums[i + 2], 0x88, 0xDD, k.Vshufps);
            }

            AddLanes(sums[0], sums[2 * Keys], 0x88, 0xDD, k.Vshuff32x4);
            MultiplyByFactors(sums[0]);
            k.Mov(t, productScores);
            k.Vmovups(t + 0, sums[0].Lower(128));
            for (int r = 1; r < Rows; r++) k.Vextract(t + (r * scoreStride * sizeof(float)), sums[0], r);
        }

        // a = some lanes of a and b + the others.
        void AddLanes(Vec a, Vec b, int some, int others, Action<Vec, Vec, Source, int> exchange)
        {
            exchange(row, a, b, some);
            exchange(a, a, b, others);
            if (addsIntegers) k.Vpaddd(a, row, a);
            else k.Vaddps(a, row, a);
        }

        // Of rows 0 to 3 and two keys: 00 01 10 11, 20 21 30 31.
        void Sums256(Vec to)
        {
            Action<Vec, Vec, Source> addNeighbours = addsIntegers ? k.Vphaddd : k.Vhaddps;
            for (int i = 0; of.IsInteger && !addsIntegers && i < sums.Length; i++) k.Vcvtdq2ps(sums[i], sums[i]);
            for (int i = 0; i < 8; i += 2) addNeighbours(sums[i], sums[i], sums[i + 1]);
            for (int i = 0; i < 8; i += 4) addNeighbours(sums[i], sums[i], sums[i + 2]);
            k.Vperm2f128(row, sums[0], sums[4], 0x20);
            k.Vperm2f128(sums[0], sums[0], sums[4], 0x31);
            if (addsIntegers) k.Vpaddd(to, row, sums[0]);
            else k.Vaddps(to, row, sums[0]);
            MultiplyByFactors(to);
        }

        // Sums of four rows to floats, and to what they stand for.
        void MultiplyByFactors(Vec all)
        {
            if (!of.IsInteger) return;
            if (addsIntegers) k.Vcvtdq2ps(all, all);
            k.Mov(t, rowFactors);
            k.Vmulps(all, all, t + 0);
        }

        void StoreSums256()
        {
            Vec pair = firstPair!.Value;
            Sums256(sums[1]);
            k.Vshufps(row, pair, sums[1], 0x44);
            k.Vshufps(pair, pair, sums[1], 0xEE);
            k.Mov(t, productScores);
            k.Vmovups(t + 0, row.Lower(128));
            k.Vmovups(t + (scoreStride * sizeof(float)), pair.Lower(128));
            k.Vextract(t + (2 * scoreStride * sizeof(float)), row, 1);
            k.Vextract(t + (3 * scoreStride * sizeof(float)), pair, 1);
        }

        Mem At(void* field, string name) => k.Field((int)((nint)field - start), name);
    }
}
