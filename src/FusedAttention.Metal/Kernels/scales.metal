// Scales of keys and values of 8 bits. A key is its scale times its codes, and so is its score: products are of codes, and the scale is multiplied into the finished sum. The scale of a value is multiplied into its weight.

FUNCTION_CONSTANT(bool, has_key_scale, 9);
FUNCTION_CONSTANT(bool, has_value_scale, 10);

// Scales of the keys, or of the values, of one head of one sequence: they lie as keys do.
struct ScaleRows {
    device const float *first;
    long token_stride;
    long block_stride;
    device const int *blocks;
    int block_size;                     // 0 when keys lie one stride apart
};

// `start` is where the sequence's keys, or values, begin, from which the host's factor makes the place of its first token's scale where sequences are packed; otherwise scales begin by the number of the sequence.
INLINE ScaleRows scales_of(
    int head, int number, long start, device const float *scales, device const int *block_tables, int block_size, thread const SequenceEntry &sequence, constant ScalePlaces &places)
{
    long first = long((ulong(start) >> places.start_shift) * places.start_factor) + number * places.sequence_stride;
    ScaleRows rows;
    rows.first = scales + (first + head * places.head_stride);
    rows.token_stride = places.token_stride;
    rows.block_stride = places.block_stride;
    rows.blocks = block_tables + sequence.block_table_start;
    rows.block_size = block_size;
    return rows;
}

INLINE device const float *scale_at(thread const ScaleRows &rows, int key)
{
    if (rows.block_size == 0) return rows.first + key * rows.token_stride;
    int block = key / rows.block_size;
    return rows.first + (rows.blocks[block] * rows.block_stride + (key - block * rows.block_size) * rows.token_stride);
}

// The scale of a key of a tile. In a tile that lies in one block, or in none, it is a 32-bit distance from that of the tile's first key, which is not read for that.
INLINE float scale_in_tile(thread const ScaleRows &rows, bool is_run, int tile, int key)
{
    return is_run ? scale_at(rows, tile)[(key - tile) * int(rows.token_stride)] : *scale_at(rows, key);
}

// A value's weight times its scale. The weight of a key that is hidden is 0, and stays so whatever its scale is: told by bits, since fast math takes a product with 0 for 0.
INLINE float scaled_weight(float weight, float scale) { return as_type<uint>(weight) == 0u ? 0.0f : weight * scale; }
