namespace FusedAttention.Comparison.Cases;

/// <summary>The rows of the report.</summary>
internal static class CaseList
{
    private static readonly AttentionElementType[] Types = [AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16];
    private static readonly AttentionElementType[] EightBitTypes = [AttentionElementType.Q8Block, AttentionElementType.Int8];

    /// <param name="isLong">Whether to include the prefill of 8192 tokens, which takes minutes with some peers.</param>
    public static IEnumerable<AttentionCase> All(bool isLong)
    {
        int[] lengths = isLong ? [512, 2048, 8192] : [512, 2048];
        foreach (AttentionElementType type in Types)
        {
            foreach (int dim in (int[])[64, 128])
            {
                foreach (bool causal in (bool[])[false, true])
                {
                    foreach (int length in lengths) yield return new(CaseKind.Prefill, type, 8, 8, dim, length, length, causal);
                }
            }
        }

        foreach (AttentionElementType type in Types)
        {
            foreach (int keyValueHeads in (int[])[32, 8])
            {
                foreach (int keys in (int[])[4096, 32768]) yield return new(CaseKind.Decode, type, 32, keyValueHeads, 128, 1, keys, IsCausal: false);
            }
        }

        foreach (AttentionElementType type in EightBitTypes)
        {
            yield return new(CaseKind.Prefill, type, 8, 8, 128, 2048, 2048, IsCausal: true);
            yield return new(CaseKind.Decode, type, 32, 8, 128, 1, 32768, IsCausal: false);
        }
    }
}
