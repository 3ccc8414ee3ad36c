// Values that are infinite or NaN, "special" for short. A weight of zero does not undo them (0 * NaN is NaN), and matrix products have one weight for each row and key, so sums
// are taken with zeros in their place: what a row may not see cannot change a bit of it. A kernel remembers between which keys there was one, which is nowhere, as a rule. Where
// there was, each lane looks through those keys once its results are stored, and puts into its elements what their rows do see: infinity plus infinity of the other sign is NaN.
// What they are as bits is in special_values.metal.

// Keys [first, end) among which all special values are; at first none.
struct KeySpan {
    int first;
    int end;
};

INLINE KeySpan no_keys()
{
    KeySpan span;
    span.first = 0x7FFFFFFF;
    span.end = 0;
    return span;
}

INLINE void note_key(thread KeySpan &span, int key, bool found)
{
    span.first = found ? min(span.first, key) : span.first;
    span.end = found ? max(span.end, key + 1) : span.end;
}

// An element of a key's value, or zero in place of a special one.
template <typename T> INLINE T without_special(T element, int key, thread KeySpan &specials)
{
    bool found = is_special(element);
    note_key(specials, key, found);
    if (found) element = 0;
    return element;
}

// Four of them.
template <typename T4> INLINE T4 without_specials(T4 elements, int key, thread KeySpan &specials)
{
    bool x = is_special(elements.x);
    bool y = is_special(elements.y);
    bool z = is_special(elements.z);
    bool w = is_special(elements.w);
    note_key(specials, key, x || y || z || w);
    if (x) elements.x = 0;
    if (y) elements.y = 0;
    if (z) elements.z = 0;
    if (w) elements.w = 0;
    return elements;
}

// What the lanes of a threadgroup have found: each simdgroup leaves its span, and after a barrier everyone has all of them.
INLINE void share_span(threadgroup int2 *spans, KeySpan span, uint simdgroup_index, uint lane)
{
    int first = simd_min(span.first);
    int end = simd_max(span.end);
    if (lane == 0) spans[simdgroup_index] = int2(first, end);
}

INLINE KeySpan span_of_all(threadgroup const int2 *spans)
{
    KeySpan span = no_keys();
    for (int i = 0; i < SIMDGROUPS; i++) {
        span.first = min(span.first, spans[i].x);
        span.end = max(span.end, spans[i].y);
    }
    return span;
}

// Adds what a row sees of the special values between two keys to its results, where they were stored: RUN columns from first_column on, and as many after each STRIDE, up to end_column. Only
// the lane that has stored them may ask, since no other could be sure to find them.
template <int RUN, int STRIDE, typename T>
INLINE void add_specials(
    device T *results, thread const Row &row, thread const KeyRows &values, KeySpan specials, int first_column, int end_column, PARAMETERS parameters)
{
    int first = max(specials.first, row.start);
    int end = min(specials.end, row.end);
    if (first >= end) return;
    ROLLED
    for (int start = first_column; start < end_column; start += STRIDE) {
        ROLLED
        for (int column = start; column < min(start + RUN, end_column); column++) {
            uint special = 0u;
            ROLLED
            for (int key = first; key < end; key++) {
                uint of_key = special_of(widen(key_row(values, key)[column]));
                if (of_key != 0u && sees_key(row, key, parameters)) special |= of_key;
            }
            if (special != 0u) results[column] = narrow<T>(with_special(widen(results[column]), special));
        }
    }
}
