// Attention over parts of a context combined by the parts' log-sum-exps: lse = log(sum_i exp(lse_i)), o = sum_i exp(lse_i - lse) * o_i, parts in ascending order.
// A part with log-sum-exp -inf saw no key: its output may hold anything. One of NaN or +inf makes its row NaN. An infinite or NaN element stays so whatever its
// part's weight, which may be too small for a float (special_values.metal).
//
// One simdgroup a row. PARTIAL_T, OUTPUT_T and SIMDGROUPS come from the host.

FUNCTION_CONSTANT(bool, has_sinks, 0);
FUNCTION_CONSTANT(bool, has_log_sum_exp, 1);

THREADGROUP_OF(SIMDGROUPS * 32) kernel void merge(
    device const PARTIAL_T *partials [[buffer(0)]],
    device const float *partial_log_sum_exps [[buffer(1)]],
    device OUTPUT_T *output [[buffer(2)]],
    device float *log_sum_exp [[buffer(3)]],
    device const float *sink_logits [[buffer(4)]],
    constant MergeParameters &parameters [[buffer(5)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    long index = long(place.x) * SIMDGROUPS + simdgroup_index;
    if (index >= parameters.rows) return;
    long head = index % parameters.heads;
    long query = index / parameters.heads % parameters.queries;
    long batch = index / parameters.heads / parameters.queries;
    device const PARTIAL_T *partial = partials
        + (batch * parameters.partial_batch_stride + query * parameters.partial_query_stride + head * parameters.partial_head_stride);
    device const float *lse = partial_log_sum_exps
        + (batch * parameters.partial_log_sum_exp_batch_stride + query * parameters.partial_log_sum_exp_query_stride + head * parameters.partial_log_sum_exp_head_stride);
    float sink = has_sinks ? sink_logits[head] : negative_infinity();

    // The largest log-sum-exp.
    bool is_empty = is_negative_infinity(sink);
    bool is_nan = false;
    float top = is_empty ? 0.0f : sink;
    for (long part = 0; part < parameters.parts; part++) {
        float x = lse[part * parameters.partial_log_sum_exp_part_stride];
        if (is_negative_infinity(x)) continue;
        if ((as_type<uint>(x) & 0x7F800000u) == 0x7F800000u) is_nan = true;
        if (is_empty || x > top) top = x;
        is_empty = false;
    }

    float sum = is_negative_infinity(sink) ? 0.0f : precise::exp(sink - top);
    for (long part = 0; part < parameters.parts; part++) {
        float x = lse[part * parameters.partial_log_sum_exp_part_stride];
        if (!is_negative_infinity(x)) sum += precise::exp(x - top);
    }
    float total = top + precise::log(sum);
    if (is_nan) total = as_type<float>(0x7FC00000u);
    if (is_empty) total = negative_infinity();
    if (has_log_sum_exp && lane == 0) {
        log_sum_exp[batch * parameters.log_sum_exp_batch_stride + query * parameters.log_sum_exp_query_stride + head * parameters.log_sum_exp_head_stride] = total;
    }

    device OUTPUT_T *to = output + (batch * parameters.output_batch_stride + query * parameters.output_query_stride + head * parameters.output_head_stride);
    for (long d = lane; d < parameters.dim; d += 32) {
        float o = 0.0f;
        uint special = 0u;
        for (long part = 0; part < parameters.parts; part++) {
            float x = lse[part * parameters.partial_log_sum_exp_part_stride];
            if (is_negative_infinity(x)) continue;
            float element = widen(partial[part * parameters.partial_part_stride + d]);
            uint of_part = special_of(element);
            special |= of_part;
            if (of_part == 0u) o = fma(element, precise::exp(x - top) / sum, o);
        }
        to[d] = narrow<OUTPUT_T>(is_nan ? as_type<float>(0x7FC00000u) : with_special(o, special));
    }
}
