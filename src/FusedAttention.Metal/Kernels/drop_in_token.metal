// One query of one head over a paged cache, for the drop-in: attend_item with a call's parameters in place of the host's tables.

#define SHARED_OUTPUTS (SIMDGROUPS / 2 * ROWS * (VALUE_DIM / 4))

INLINE void attend_token(
    device const half *query,
    device const half *key_cache,
    device const half *value_cache,
    device const uint *table,
    device half *output,
    thread const PagedAttentionParams &call,
    uint token,
    uint head,
    int key_count,
    threadgroup float4 *shared_outputs,
    threadgroup float2 *shared_statistics,
    threadgroup int2 *special_keys,
    uint simdgroup_index,
    uint lane)
{
    AttentionParameters parameters = parameters_of(call.num_heads, call.head_dim, call.scale, true);
    SequenceEntry sequence;
    sequence.query_start = long(token) * parameters.query_token_stride;
    sequence.output_start = sequence.query_start;
    sequence.query_offset = key_count - 1;
    sequence.query_length = 1;
    sequence.key_length = key_count;
    WorkItem item;
    item.first_row = 0;
    item.end_row = 1;
    item.first_key = 0;
    item.end_key = key_count;
    item.partial = -1;

    KeyRows keys;
    keys.token_stride = long(call.num_kv_heads) * call.head_dim;
    keys.block_stride = long(call.block_size) * keys.token_stride;
    keys.blocks = (device const int *)table;
    keys.block_size = max(int(call.block_size), 1);      // 0 is refused; told here, it is no branch of every address
    keys.columns = int(call.head_dim);
    long start = long(head) * call.num_kv_heads / call.num_heads * call.head_dim;
    keys.first = key_cache + start;
    KeyRows values = keys;
    values.first = value_cache + start;

    Operands operands = {nullptr, nullptr, nullptr, nullptr, {0}};
    attend_item(
        query, keys, values, output, nullptr, nullptr, int(head), item, sequence, operands, parameters, shared_outputs, shared_statistics, special_keys, simdgroup_index, lane);
}
