// A tile of queries of one head, for the drop-in: attend_block with a call's parameters in place of the host's tables.

INLINE void attend_queries(
    device const half *query,
    device const half *key,
    device const half *value,
    device half *output,
    thread const FusedAttentionParams &call,
    uint batch,
    uint head,
    uint tile,
    threadgroup half *staged,
    uint thread_index,
    uint simdgroup_index,
    uint lane)
{
    AttentionParameters parameters = parameters_of(call.num_heads, call.head_dim, call.scale, call.causal != 0);
    SequenceEntry sequence;
    sequence.query_start = long(batch) * call.seq_len * parameters.query_token_stride;
    sequence.output_start = sequence.query_start;
    sequence.query_offset = call.causal == CAUSAL_TOP_LEFT ? 0 : long(call.kv_len) - long(call.seq_len);
    sequence.query_length = int(call.seq_len);
    sequence.key_length = int(call.kv_len);
    WorkItem item;
    item.first_row = int(tile * TILE_QUERIES);
    item.end_row = min(item.first_row + TILE_QUERIES, sequence.query_length);

    KeyRows keys;
    keys.token_stride = long(call.num_kv_heads) * call.head_dim;
    long start = long(batch) * call.kv_len * keys.token_stride + long(head) * call.num_kv_heads / call.num_heads * call.head_dim;
    keys.first = key + start;
    keys.block_stride = 0;
    keys.blocks = nullptr;
    keys.block_size = 0;
    keys.columns = int(call.head_dim);
    KeyRows values = keys;
    values.first = value + start;

    Operands operands = {nullptr, nullptr, nullptr, nullptr, {call.use_alibi != 0 ? int(call.num_heads) : 0}};
    attend_block(query, keys, values, output, int(head), item, sequence, operands, parameters, staged, thread_index, simdgroup_index, lane);
}
