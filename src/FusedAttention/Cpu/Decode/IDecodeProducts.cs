using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Decode;

/// <summary>The two products of a decode tile, S = Q K^T and O += P V.</summary>
internal interface IDecodeProducts
{
    /// <summary>Once a chunk, with its queries widened.</summary>
    static virtual void Prepare(AttentionProblem problem, in WorkItem item, in DecodeLayout at)
    {
    }

    static abstract void Scores(in DecodePass pass);

    static abstract void Outputs(in DecodePass pass);
}
