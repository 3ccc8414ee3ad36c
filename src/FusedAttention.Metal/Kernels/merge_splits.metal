// Merges partial results (splits.metal). One simdgroup a row; here an item's keys are its splits [first_key, end_key).

THREADGROUP_OF(128) kernel void merge_splits(
    device QUERY_T *output [[buffer(3)]],
    device const SequenceEntry *sequences [[buffer(4)]],
    device const WorkItem *items [[buffer(5)]],
    device const uchar *mask [[buffer(7)]],
    device const uchar *bias [[buffer(8)]],
    device float *log_sum_exp [[buffer(9)]],
    device const float *alibi_slopes [[buffer(10)]],
    device const float *sink_logits [[buffer(11)]],
    device const float *partial_outputs [[buffer(12)]],
    device const float *partial_statistics [[buffer(13)]],
    constant AttentionParameters &parameters [[buffer(14)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    WorkItem item = items[place.x];
    SequenceEntry sequence = sequences[item.sequence];
    int head = int(place.y);
    Operands operands = {mask, bias, log_sum_exp, sink_logits, {alibi_slopes}};
    int index = item.first_row + int(simdgroup_index);
    if (index >= item.end_row) return;
    Row row = row_at(index, head, sequence, operands, parameters);
    long first = partial_row(item.partial, head, index, sequence, parameters);
    long stride = long(parameters.key_value_heads) * sequence.query_length * parameters.group;

    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;
    float maximum = NEVER_SEEN;
    for (int split = item.first_key; split < item.end_key; split++) {
        maximum = max(maximum, partial_statistics[(first + split * stride) * 2]);
    }
    float base = base_of(maximum);
    float sum = 0.0f;
    for (int split = item.first_key; split < item.end_key; split++) {
        device const float *statistics = partial_statistics + (first + split * stride) * 2;
        sum = fma(statistics[1], weight_of(statistics[0], base, factor), sum);
    }

    RowEnd row_end = end_of_row(maximum, sum, unit, row, operands);
    device QUERY_T *to = output_row(output, row, sequence, parameters);
    for (int d = int(lane); d < VALUE_DIM; d += 32) {
        float o = 0.0f;
        uint special = 0u;
        for (int split = item.first_key; split < item.end_key; split++) {
            long at = first + split * stride;
            float partial = partial_outputs[at * VALUE_DIM + d];
            uint of_split = special_of(partial);
            special |= of_split;
            if (of_split == 0u) o = fma(partial, weight_of(partial_statistics[at * 2], base, factor), o);
        }
        to[d] = narrow<QUERY_T>(with_special(o * row_end.factor, special));
    }
    if (has_log_sum_exp && lane == 0) store_log_sum_exp(row_end.log_sum_exp, row, operands, sequence, parameters);
}
