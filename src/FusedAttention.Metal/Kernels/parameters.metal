// The contract with the host: these structures have the same fields at the same offsets as those of the same names in C#, and a test compares the two texts. 8-byte
// fields come first, then 4-byte ones: no padding to get wrong. Strides and starts count elements.

struct AttentionParameters {
    long query_token_stride;
    long query_head_stride;
    long output_token_stride;
    long output_head_stride;
    long key_token_stride;
    long key_head_stride;
    long value_token_stride;
    long value_head_stride;
    long key_block_stride;
    long value_block_stride;
    long mask_head_stride;
    long mask_query_stride;
    long bias_head_stride;
    long bias_query_stride;
    long log_sum_exp_head_stride;
    long log_sum_exp_query_stride;
    long left_reach;
    long right_reach;
    int query_heads;
    int key_value_heads;
    int group;
    int block_size;
    float scale;
    float soft_cap;
};

// How functions take them: set by the host, or made by the kernel where a file has to stand alone.
#ifdef FUSED_ATTENTION_STANDS_ALONE
#define PARAMETERS thread const AttentionParameters &
#else
#define PARAMETERS constant AttentionParameters &
#endif

// One sequence of a call. A query i stands at position query_offset + i and sees keys [position - left_reach, position + right_reach] of key_length.
struct SequenceEntry {
    long query_start;
    long output_start;
    long key_start;
    long value_start;
    long mask_start;
    long bias_start;
    long log_sum_exp_start;
    long block_table_start;
    long query_offset;
    int query_length;
    int key_length;
};

// What one threadgroup does (its grid position y is the key/value head): rows [first_row, end_row) of a sequence, rows being queries times the heads of the
// group, query-major, and their keys [first_key, end_key). An item whose keys are only a split of what its rows see leaves partial results, from row `partial` of
// them on; for all others `partial` is -1. A launch of its own merges splits, so the last two fields are not read here.
struct WorkItem {
    int sequence;
    int first_row;
    int end_row;
    int first_key;
    int end_key;
    int partial;
    int split;
    int splits;
};

// For merge.metal: a row is one (batch, query, head), and every tensor has a stride for each of the three; partial ones have one for the part too.
struct MergeParameters {
    long partial_part_stride;
    long partial_batch_stride;
    long partial_query_stride;
    long partial_head_stride;
    long partial_log_sum_exp_part_stride;
    long partial_log_sum_exp_batch_stride;
    long partial_log_sum_exp_query_stride;
    long partial_log_sum_exp_head_stride;
    long output_batch_stride;
    long output_query_stride;
    long output_head_stride;
    long log_sum_exp_batch_stride;
    long log_sum_exp_query_stride;
    long log_sum_exp_head_stride;
    long rows;
    long queries;
    long heads;
    long parts;
    long dim;
};

// For cache.metal. Slots of a cache are [kvHeads, dim], contiguous; new tokens have strides.
struct CacheParameters {
    long key_token_stride;
    long key_head_stride;
    long value_token_stride;
    long value_head_stride;
    int heads;
    int key_dim;
    int value_dim;
    int reserved;
};

// Slots, counted over the whole cache, to copy from one block to another.
struct SlotCopy {
    long from;
    long to;
    long slots;
};
