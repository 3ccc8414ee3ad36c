namespace FusedAttention.Cpu.Decode;

/// <summary>What <see cref="IntegerProducts{TS, TV, TLanes}"/> does with whole vectors, around the kernels.</summary>
internal unsafe interface IIntegerLanes
{
    /// <summary>32-bit lanes of a vector.</summary>
    static abstract int Width { get; }

    /// <summary>The largest magnitude of elements [first, end), as bits: of NaN and infinity those at or beyond infinity's. Whole vectors.</summary>
    static abstract int LargestBits(float* values, int first, int end);

    /// <summary>Elements [first, end) times a factor, to the nearest 16-bit integer, of two to the even one. Whole pairs of vectors.</summary>
    static abstract void Round(float* values, float factor, int first, int end, short* words);

    /// <summary>Adds sums, as <see cref="MachineCode.Kernels.DecodeSums.IntegerColumns"/> leaves them, times a step to a row, and clears them. Whole pairs of vectors.</summary>
    static abstract void AddSums(int* sums, float step, float* output, int dim);
}
