using System.Globalization;

namespace FusedAttention.Metal.DropIn;

/// <summary>The head of the drop-in file: what it promises, and what it takes parameters for that the originals left open.</summary>
internal static class DropInHeader
{
    public static string Of(ReadOnlySpan<int> headDims, int stagedBytes) => string.Create(CultureInfo.InvariantCulture, $"""
        // Exact attention for Apple GPUs: fused_attention, fused_attention_f16, fused_attention_batched and paged_attention.
        //
        // Made by FusedAttention (fused-attention metal-source --drop-in) out of its own kernels; change those and not this file. docs/metal-drop-in.md of that project has the whole promise.
        // Language: Metal 3.1 (3.0 will do). Never run on Apple hardware by those who made it; compiled and run in their emulator.
        //
        //     Call       256 threads a threadgroup; grid (1, num_heads, ceil(seq_len / 64)), batched (batch, num_heads, ceil(seq_len / 64)), paged (1, num_heads, sequences). Other grids of fused_attention
        //                are gone through to the end; the number of sequences of paged_attention is the grid's.
        //     Memory     {stagedBytes} bytes of threadgroup memory, all declared here. Threadgroup slot 0 of fused_attention is declared and not used: set any length, or none.
        //     head_dim   any up to {headDims[^1]}; copies for {string.Join(" and ", headDims.ToArray())}. Beyond that, with fewer than 256 threads, or with blocks of 0 tokens, results are NaN.
        //     heads      query head h has key/value head h * num_kv_heads / num_heads.
        //     causal     0: all keys. 1: the last query has the last key (key <= query + kv_len - seq_len); in paged_attention the one query is the last token, and sees its whole context. 2: the first
        //                query has the first key (key <= query); in paged_attention the query's index is its sequence's, for hosts that page the tokens of one sequence.
        //     use_alibi  score - slope * |position of query - key|, slopes for any number of heads; positions as with causal 1, or as with causal 2.
        //     scale      any finite number. A row that sees no key is 0.
        //     _padding   of PagedAttentionParams is the stride of the block tables, in entries; 0: num_blocks, as the originals read them. If it is set, num_blocks is the number of blocks,
        //                and a sequence ends before the first entry that is none of them.
        //
        // Infinities and NaN in keys and values reach the rows that see them and no other; keys that no query of a tile sees are not read.

        """);
}
