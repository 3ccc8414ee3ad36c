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

    public static void Scores(in DecodePass pass)
    {
        AttentionProblem problem = pass.Problem;
        int step = DecodeTiles.KeyStep(pass.At.RowsPerHead, problem.KeyValueHeads * (long)problem.KeyDim * sizeof(ushort), KeysOfProduct);
        int later = pass.FirstAfterKeys(step);
        Run(pass, pass.Start, later, step, pass.Code.ScoresThenKeys);
        Run(pass, later, pass.Stop, step, pass.Code.ScoresThenValues);

        static void Run(in DecodePass pass, int start, int stop, int step, nint kernel)
        {
            if (start == stop) return;
            ref readonly DecodeLayout at = ref pass.At;
            TokensAhead ahead = pass.AfterKeys(start);
            nint headStride = (nint)(pass.Problem.KeyHeadStride * sizeof(ushort));
            var block = new HalfScoresBlock
            {
                Keys = pass.Rows.Keys + start,
                KeysEnd = pass.Rows.Keys + stop,
                Ahead = ahead.Rows,
                Query = at.Query,
                Scores = at.Scores + start,
                Offset = pass.Item.Head * headStride,
                HeadStride = headStride,
                AheadOffset = pass.Item.Head * ahead.HeadStride,
                AheadHeadStride = ahead.HeadStride,
                Heads = pass.Item.HeadCount,
                RowBlocks = at.RowsPerHead / DecodeTiles.Rows,
                StepBytes = step * sizeof(nint),
                StepScoreBytes = step * sizeof(float),
            };
            ((delegate* unmanaged<HalfScoresBlock*, void>)kernel)(&block);
        }
    }

    public static void Outputs(in DecodePass pass)
    {
        int later = pass.FirstAfterValues();
        Run(pass, pass.Start, later, pass.Code.SumsThenValues);
        Run(pass, later, pass.Stop, pass.NextStop > 0 ? pass.Code.SumsThenKeys : pass.Code.SumsThenValues);

        static void Run(in DecodePass pass, int start, int stop, nint kernel)
        {
            if (start == stop) return;
            ref readonly DecodeLayout at = ref pass.At;
            TokensAhead ahead = pass.AfterValues(start);
            nint headStride = (nint)(pass.Problem.ValueHeadStride * sizeof(ushort));
            var block = new HalfSumsBlock
            {
                Values = pass.Rows.Values + start,
                ValuesEnd = pass.Rows.Values + stop,
                Ahead = ahead.Rows,
                Weights = at.Scores + start,
                Output = at.Output,
                Offset = pass.Item.Head * headStride,
                HeadStride = headStride,
                AheadOffset = pass.Item.Head * ahead.HeadStride,
                AheadHeadStride = ahead.HeadStride,
                Heads = pass.Item.HeadCount,
                RowBlocks = at.RowsPerHead / DecodeTiles.Rows,
                StepBytes = pass.ValueStep * sizeof(nint),
                StepWeightBytes = pass.ValueStep * sizeof(float),
            };
            ((delegate* unmanaged<HalfSumsBlock*, void>)kernel)(&block);
        }
    }
}
