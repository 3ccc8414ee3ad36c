using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// The products of binary16 keys and values by machine code, where a head has four rows or a multiple: a whole tile in two calls each, which ask for what comes after it as <see cref="DecodeProducts{TS, TV, TE, TCheap}"/> does.
/// </summary>
internal readonly unsafe struct HalfProducts : IDecodeProducts
{
    // What the kernel takes keys by; steps are multiples of it.
    private const int KeysOfProduct = 4;

    /// <summary>Whether a sequence's rows are served.</summary>
    public static bool Takes(int rowsPerHead) => rowsPerHead % DecodeTiles.Rows == 0;

    public static void Scores(in DecodePass pass) => Scores(pass, sizeof(ushort), pass.At.Query, null);

    public static void Outputs(in DecodePass pass) => Outputs(pass, sizeof(ushort), pass.At.Scores, sizeof(float), pass.At.Output, pass.ValueStep);

    /// <summary>The scores of any element that <see cref="DecodeScores"/> takes.</summary>
    /// <param name="pass">The tile.</param>
    /// <param name="size">Bytes of a key's element.</param>
    /// <param name="query">The rows, as the kernel multiplies them.</param>
    /// <param name="factors">What sums of integers are multiplied with, a fourth of a vector for each row.</param>
    internal static void Scores(in DecodePass pass, int size, void* query, float* factors)
    {
        AttentionProblem problem = pass.Problem;
        int step = DecodeTiles.KeyStep(pass.At.RowsPerHead, problem.KeyValueHeads * (long)problem.KeyDim * size, KeysOfProduct);
        int later = pass.FirstAfterKeys(step);
        Run(pass, pass.Start, later, pass.Code.ScoresThenKeys);
        Run(pass, later, pass.Stop, pass.Code.ScoresThenValues);

        void Run(in DecodePass pass, int start, int stop, nint kernel)
        {
            if (start == stop) return;
            var block = new DecodeScoresBlock
            {
                Walk = Walk(pass, pass.Rows.Keys, start, stop, pass.AfterKeys(start), (nint)(pass.Problem.KeyHeadStride * size), pass.At.Scores, sizeof(float), step),
                Query = query,
                Factors = factors,
            };
            ((delegate* unmanaged<DecodeScoresBlock*, void>)kernel)(&block);
        }
    }

    /// <summary>The sums of any element that <see cref="DecodeSums"/> takes.</summary>
    /// <param name="pass">The tile.</param>
    /// <param name="size">Bytes of a value's element.</param>
    /// <param name="weights">The rows of weights, as the kernel multiplies them.</param>
    /// <param name="weightSize">Bytes of a weight.</param>
    /// <param name="sums">What the kernel adds to.</param>
    /// <param name="step">Values that all heads pass before the next come.</param>
    internal static void Outputs(in DecodePass pass, int size, void* weights, int weightSize, void* sums, int step)
    {
        int later = pass.FirstAfterValues(step);
        Run(pass, pass.Start, later, pass.Code.SumsThenValues);
        Run(pass, later, pass.Stop, pass.NextStop > 0 ? pass.Code.SumsThenKeys : pass.Code.SumsThenValues);

        void Run(in DecodePass pass, int start, int stop, nint kernel)
        {
            if (start == stop) return;
            var block = new DecodeSumsBlock
            {
                Walk = Walk(pass, pass.Rows.Values, start, stop, pass.AfterValues(start), (nint)(pass.Problem.ValueHeadStride * size), weights, weightSize, step),
                Output = sums,
            };
            ((delegate* unmanaged<DecodeSumsBlock*, void>)kernel)(&block);
        }
    }

    private static DecodeWalkBlock Walk(in DecodePass pass, nint* tokens, int start, int stop, in TokensAhead ahead, nint headStride, void* numbers, int numberSize, int step) => new()
    {
        Tokens = tokens + start,
        TokensEnd = tokens + stop,
        Ahead = ahead.Rows,
        Numbers = (byte*)numbers + (start * numberSize),
        Offset = pass.Item.Head * headStride,
        HeadStride = headStride,
        AheadOffset = pass.Item.Head * ahead.HeadStride,
        AheadHeadStride = ahead.HeadStride,
        Heads = pass.Item.HeadCount,
        RowBlocks = pass.At.RowsPerHead / DecodeTiles.Rows,
        StepBytes = step * sizeof(nint),
        StepNumberBytes = step * numberSize,
    };
}
