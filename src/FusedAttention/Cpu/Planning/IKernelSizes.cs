using FusedAttention.Problems;

namespace FusedAttention.Cpu.Planning;

/// <summary>What a plan needs to know of the kernels of an instruction set: how their rows are grouped, and how much memory they take.</summary>
internal interface IKernelSizes
{
    /// <summary>How the prefill of a call groups its rows.</summary>
    PrefillRows PrefillRows(AttentionProblem problem);

    /// <summary>Floats that one row of one chunk of a split decode takes.</summary>
    int PartialRowFloats(int valueDim);

    /// <summary>Bytes of working memory that a prefill item takes.</summary>
    long PrefillScratch(AttentionProblem problem, in PrefillSizes sizes);

    /// <summary>Bytes of working memory that a decode of so many key/value heads and rows a head takes.</summary>
    long DecodeScratch(AttentionProblem problem, int heads, int rows);
}
