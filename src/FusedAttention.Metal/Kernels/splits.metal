// Partial results: the keys of a sequence with few rows are split among threadgroups. Each leaves m, l and O of its rows in floats, and merge_splits.metal combines
// them, always in the order of the splits: m = max m_i, l = sum l_i exp(m_i - m), O = sum O_i exp(m_i - m).

// Where the partial result of a row lies. A sequence's partial results are [split, key/value head, row]; an item knows the first of its split.
INLINE long partial_row(int first, int head, int row, thread const SequenceEntry &sequence, PARAMETERS parameters)
{
    return first + (head * (long(sequence.query_length) * parameters.group) + row);
}
