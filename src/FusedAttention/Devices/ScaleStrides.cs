using System.Runtime.InteropServices;
using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>Where the scales of 8-bit keys, or of values, lie from the first one on, as the kernels read it. Strides count scales, 0 where one serves many.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ScaleStrides
{
    /// <summary>From a sequence to the next one, where a sequence's scales begin by its number.</summary>
    public long SequenceStride;

    /// <summary>What the beginning of a sequence's keys is divided by for the number of its first token, where sequences are packed; 0 where they are not.</summary>
    public long TokenDivisor;
    public long BlockStride;
    public long TokenStride;
    public long HeadStride;

    /// <param name="problem">The call.</param>
    /// <param name="areValues">Whether they are those of values.</param>
    /// <param name="backend">The backend, as users know it.</param>
    /// <exception cref="NotSupportedException">Packed sequences begin where their first token's number cannot be told from.</exception>
    public static ScaleStrides Of(AttentionProblem problem, bool areValues, string backend)
    {
        ref readonly ScaleTensor scale = ref areValues ? ref problem.ValueScale : ref problem.KeyScale;
        var strides = new ScaleStrides { BlockStride = scale.BlockStride, TokenStride = scale.TokenStride, HeadStride = scale.HeadStride };
        if (scale.IsAbsent || problem.BlockSize > 0) return strides;
        strides.SequenceStride = scale.BlockStride;
        bool isByNumber = true, isByToken = true;
        long tokenStride = areValues ? problem.ValueTokenStride : problem.KeyTokenStride;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences)
        {
            long start = areValues ? sequence.ValueScaleStart : sequence.KeyScaleStart, first = areValues ? sequence.ValueStart : sequence.KeyStart;
            isByNumber &= start == sequence.Index * scale.BlockStride;
            isByToken &= tokenStride > 0 && first % tokenStride == 0 && start == first / tokenStride * scale.TokenStride;
        }

        if (isByNumber) return strides;
        if (!isByToken)
            throw new NotSupportedException($"Packed {(areValues ? "values" : "keys")} have a stride of {tokenStride} from token to token; the {backend} kernels find scales of packed sequences by a stride that is not 0 nor negative.");
        strides.TokenDivisor = tokenStride;
        return strides;
    }
}
