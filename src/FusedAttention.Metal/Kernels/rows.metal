// The end of a row: sink, division by the sum, log-sum-exp, rounding to the output type.

struct RowEnd {
    float factor;           // what the row's sum of weighted values is multiplied with
    float log_sum_exp;
};

// From the maximum m of the row's scores, in units of `unit` natural logarithms, and the sum l of its weights relative to m.
INLINE RowEnd end_of_row(float maximum, float sum, float unit, thread const Row &row, thread const Operands &operands)
{
    RowEnd end;
    float sink = has_sinks ? operands.sink_logits[row.head] : negative_infinity();
    float m = maximum * unit;
    if (sum == 0.0f) {
        end.factor = 0.0f;
        end.log_sum_exp = sink;
    } else if (is_negative_infinity(sink)) {
        end.factor = 1.0f / sum;
        end.log_sum_exp = m + precise::log(sum);
    } else {
        // Relative to the larger of the two, so that neither exponential overflows.
        float top = sink > m ? sink : m;
        float weight = precise::exp(m - top);
        float total = sum * weight + precise::exp(sink - top);
        end.factor = weight / total;
        end.log_sum_exp = top + precise::log(total);
    }
    return end;
}

INLINE device QUERY_T *output_row(device QUERY_T *output, thread const Row &row, thread const SequenceEntry &sequence, PARAMETERS parameters)
{
    return output + (sequence.output_start + row.query * parameters.output_token_stride + row.head * parameters.output_head_stride);
}

INLINE void store_log_sum_exp(float value, thread const Row &row, thread const Operands &operands, thread const SequenceEntry &sequence, PARAMETERS parameters)
{
    operands.log_sum_exp[sequence.log_sum_exp_start + row.head * parameters.log_sum_exp_head_stride + row.query * parameters.log_sum_exp_query_stride] = value;
}

// Four elements of a row from column d on; those beyond its end are nowhere.
INLINE void store4(device QUERY_T *row, float4 elements, int d, int columns)
{
    if (d < columns) row[d] = narrow<QUERY_T>(elements.x);
    if (d + 1 < columns) row[d + 1] = narrow<QUERY_T>(elements.y);
    if (d + 2 < columns) row[d + 2] = narrow<QUERY_T>(elements.z);
    if (d + 3 < columns) row[d + 3] = narrow<QUERY_T>(elements.w);
}
