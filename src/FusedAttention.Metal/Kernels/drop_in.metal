// What the kernels of the drop-in file are called with, and how that becomes what the library's own kernels are told.

struct FusedAttentionParams {
    uint num_heads;
    uint num_kv_heads;
    uint head_dim;
    uint seq_len;
    uint kv_len;
    float scale;
    uint causal;
    uint use_alibi;
};

struct PagedAttentionParams {
    uint num_heads;
    uint num_kv_heads;
    uint head_dim;
    uint block_size;
    uint num_blocks;
    float scale;
    uint causal;
    uint table_stride;                  // the originals' _padding
};

// Queries of one threadgroup, eight a simdgroup. Simdgroups beyond these have no rows; with fewer the results are NaN.
#define TILE_QUERIES (SIMDGROUPS * 8)
#define MOST_SIMDGROUPS 32

// The causal modes: 1 ends both axes at the same place, 2 begins them there.
#define CAUSAL_TOP_LEFT 2u

// A reach that ends beyond every sequence.
#define EVERYWHERE (long(1) << 40)

// Scores may stay products, in units of the scale (scores.metal), where the scale is positive and their differences do not overflow before they meet it.
INLINE bool is_plain_scale(float scale) { return scale >= 1e-18f; }

// One query head a threadgroup: its rows are its queries.
INLINE AttentionParameters parameters_of(uint heads, uint head_dim, float scale, bool is_causal)
{
    AttentionParameters parameters;
    parameters.query_token_stride = long(heads) * head_dim;
    parameters.query_head_stride = head_dim;
    parameters.output_token_stride = parameters.query_token_stride;
    parameters.output_head_stride = parameters.query_head_stride;
    parameters.left_reach = EVERYWHERE;
    parameters.right_reach = is_causal ? 0 : EVERYWHERE;
    parameters.group = 1;
    parameters.scale = scale;
    return parameters;
}

// What cannot be computed must not look like a result.
INLINE void refuse(device half *row, uint head_dim, uint thread_index, uint threads)
{
    for (uint d = thread_index; d < head_dim; d += threads) row[d] = as_type<half>(ushort(0x7E00));
}
