// Attention of one row a simdgroup: any dimensions, every feature, no threadgroup memory. The path for dimensions that the other kernels do not take, and what
// those are compared with on a device.
//
// Lanes share the dimensions: lane l has l, l + 32, ... of Q, K, V and O. Then they share the keys: 32 products make a tile, and each lane takes one of them through
// the softmax.
//
// QUERY_T, KEY_VALUE_T, KEY_DIM, VALUE_DIM and SIMDGROUPS come from the host.

#define KEY_SLOTS ((KEY_DIM + 31) / 32)
#define VALUE_SLOTS ((VALUE_DIM + 31) / 32)

THREADGROUP_OF(SIMDGROUPS * 32) kernel void plain(
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
    device float *partial_outputs [[buffer(12)]],
    device float *partial_statistics [[buffer(13)]],
    constant AttentionParameters &parameters [[buffer(14)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane_index [[thread_index_in_simdgroup]])
{
    WorkItem item = items[place.x];
    SequenceEntry sequence = sequences[item.sequence];
    int head = int(place.y);
    int lane = int(lane_index);
    Operands operands = {mask, bias, log_sum_exp, sink_logits, {alibi_slopes}};
    KeyRows keys = keys_of(head, key, block_tables, sequence, parameters);
    KeyRows values = values_of(head, value, block_tables, sequence, parameters);
    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;

    for (int index = item.first_row + int(simdgroup_index); index < item.end_row; index += SIMDGROUPS) {
        Row row = row_at(index, head, sequence, operands, parameters);
        row.start = max(row.start, item.first_key);
        row.end = min(row.end, item.end_key);

        device const QUERY_T *from = query + (sequence.query_start + row.query * parameters.query_token_stride + row.head * parameters.query_head_stride);
        float query_row[KEY_SLOTS];
        float outputs[VALUE_SLOTS];
        UNROLL
        for (int i = 0; i < KEY_SLOTS; i++) {
            query_row[i] = 0.0f;
            if (i * 32 + lane < KEY_DIM) query_row[i] = widen(from[i * 32 + lane]);
        }
        UNROLL
        for (int i = 0; i < VALUE_SLOTS; i++) outputs[i] = 0.0f;
        float maximum = NEVER_SEEN;
        float sum = 0.0f;
        KeySpan specials = no_keys();   // of the lane's columns

        for (int tile = row.start / 32 * 32; tile < row.end; tile += 32) {
            int first = max(row.start - tile, 0);
            int end = min(row.end - tile, 32);

            float score = 0.0f;
            for (int j = first; j < end; j++) {
                device const KEY_VALUE_T *k = key_row(keys, tile + j);
                float product = 0.0f;
                UNROLL
                for (int i = 0; i < KEY_SLOTS; i++) {
                    if (i * 32 + lane < KEY_DIM) product = fma(query_row[i], widen(k[i * 32 + lane]), product);
                }
                product = simd_sum(product);
                if (j == lane) score = product;
            }

            score = score_of(score, row, tile, lane, parameters);
            float new_maximum = max(maximum, simd_max(score));
            float base = base_of(new_maximum);
            float rescale = weight_of(maximum, base, factor);
            float weight = weight_of(score, base, factor);
            maximum = new_maximum;
            sum = fma(sum, rescale, simd_sum(weight));

            // The tile is summed on its own and then added.
            float sums[VALUE_SLOTS];
            UNROLL
            for (int i = 0; i < VALUE_SLOTS; i++) sums[i] = 0.0f;
            for (int j = first; j < end; j++) {
                device const KEY_VALUE_T *v = key_row(values, tile + j);
                float w = simd_shuffle(weight, ushort(j));
                UNROLL
                for (int i = 0; i < VALUE_SLOTS; i++) {
                    if (i * 32 + lane < VALUE_DIM) sums[i] = fma(w, without_special(widen(v[i * 32 + lane]), tile + j, specials), sums[i]);
                }
            }
            UNROLL
            for (int i = 0; i < VALUE_SLOTS; i++) outputs[i] = fma(outputs[i], rescale, sums[i]);
        }

        if (item.partial < 0) {
            RowEnd row_end = end_of_row(maximum, sum, unit, row, operands);
            device QUERY_T *to = output_row(output, row, sequence, parameters);
            UNROLL
            for (int i = 0; i < VALUE_SLOTS; i++) {
                if (i * 32 + lane < VALUE_DIM) to[i * 32 + lane] = narrow<QUERY_T>(outputs[i] * row_end.factor);
            }
            add_specials<1, 32>(to, row, values, specials, lane, values.columns, parameters);
            if (has_log_sum_exp && lane == 0) store_log_sum_exp(row_end.log_sum_exp, row, operands, sequence, parameters);
        } else {
            long partial = partial_row(item.partial, head, index, sequence, parameters);
            device float *to = partial_outputs + partial * VALUE_DIM;
            UNROLL
            for (int i = 0; i < VALUE_SLOTS; i++) {
                if (i * 32 + lane < VALUE_DIM) to[i * 32 + lane] = outputs[i];
            }
            add_specials<1, 32>(to, row, values, specials, lane, values.columns, parameters);
            if (lane == 0) {
                partial_statistics[partial * 2] = maximum;
                partial_statistics[partial * 2 + 1] = sum;
            }
        }
    }
}
