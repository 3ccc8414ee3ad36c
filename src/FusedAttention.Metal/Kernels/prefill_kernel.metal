// The entry point of prefill.metal: an item for each threadgroup, and a key/value head.

THREADGROUP_OF(THREADS) kernel void prefill(
    device const QUERY_T *query [[buffer(0)]],
    device const KEY_VALUE_T *key [[buffer(1)]],
    device const KEY_VALUE_T *value [[buffer(2)]],
    device QUERY_T *output [[buffer(3)]],
    device const SequenceEntry *sequences [[buffer(4)]],
    device const WorkItem *items [[buffer(5)]],
    device const int *block_tables [[buffer(6)]],
    device const uchar *mask [[buffer(7)]],
    device const uchar *bias [[buffer(8)]],
    device float *log_sum_exp [[buffer(9)]],
    device const float *alibi_slopes [[buffer(10)]],
    device const float *sink_logits [[buffer(11)]],
    constant AttentionParameters &parameters [[buffer(14)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    threadgroup KEY_VALUE_T4 tile_memory[STAGED_ELEMENTS / 4];

    WorkItem item = items[place.x];
    SequenceEntry sequence = sequences[item.sequence];
    int head = int(place.y);
    Operands operands = {mask, bias, log_sum_exp, sink_logits, {alibi_slopes}};
    KeyRows keys = keys_of(head, key, block_tables, sequence, parameters);
    KeyRows values = values_of(head, value, block_tables, sequence, parameters);
    attend_block(
        query, keys, values, output, head, item, sequence, operands, parameters, (threadgroup KEY_VALUE_T *)tile_memory, thread_index, simdgroup_index, lane);
}
