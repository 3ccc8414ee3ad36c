namespace FusedAttention;

/// <summary>Which elements of a head are rotated together. Weights are trained, and sometimes permuted by a converter, for one of the two: the other gives wrong results in silence.</summary>
public enum RotaryPairing
{
    /// <summary>Elements i and i + RotaryDim / 2, as in GPT-NeoX (Black et al. 2022, arXiv:2204.06745) and in Llama, Qwen, Mistral and Gemma as Hugging Face distributes them.</summary>
    HalfSplit,

    /// <summary>Elements 2i and 2i + 1, as in the paper, GPT-J, DeepSeek, and Llama as Meta distributes it, llama2.c and GGUF files of Llama included.</summary>
    Interleaved,
}
