// The four entry points of the drop-in file, with the originals' buffers and grid: (1 or batch, heads, tiles of 64 queries) or, paged, (1, heads, sequences), of 256 threads. A threadgroup
// goes on by the size of the grid until nothing is left, so a host that rounds down loses no tail, and one that rounds up reads nothing that is not there.

// The copy of a head dimension's kernels that a call needs: the first that is wide enough.
#define ATTEND_QUERIES(dim) \
    if (call.head_dim <= dim) { \
        if (is_general) general_##dim::attend_queries(query, key, value, output, call, batch, head, tile, staged, staging_index, simdgroup_index, lane); \
        else if (call.use_alibi != 0) alibi_##dim::attend_queries(query, key, value, output, call, batch, head, tile, staged, staging_index, simdgroup_index, lane); \
        else scaled_##dim::attend_queries(query, key, value, output, call, batch, head, tile, staged, staging_index, simdgroup_index, lane); \
    } else

#define ATTEND_TOKEN(dim) \
    if (call.head_dim <= dim) { \
        if (is_general) paged_general_##dim::attend_token(query, key_cache, value_cache, table, output, call, token, head, key_count, shared_outputs, shared_statistics, special_keys, simdgroup_index, lane); \
        else paged_##dim::attend_token(query, key_cache, value_cache, table, output, call, token, head, key_count, shared_outputs, shared_statistics, special_keys, simdgroup_index, lane); \
    } else

INLINE void attend_sequences(
    device const half *query,
    device const half *key,
    device const half *value,
    device half *output,
    constant FusedAttentionParams &params,
    uint batches,
    threadgroup half *staged,
    uint3 place,
    uint3 grid,
    uint threads,
    uint thread_index,
    uint simdgroup_index,
    uint lane)
{
    FusedAttentionParams call = {
        params.num_heads, params.num_kv_heads, params.head_dim, params.seq_len, params.kv_len, params.scale, params.causal, params.use_alibi};
    // Threads beyond those that a tile is staged by have nothing to bring.
    uint staging_index = thread_index < SIMDGROUPS * 32 ? thread_index : 1u << 24;
    bool is_refused = call.head_dim > LARGEST_HEAD_DIM || threads < SIMDGROUPS * 32;
    bool is_general = call.head_dim % 4 != 0 || !is_plain_scale(call.scale);
    for (uint batch = place.x; batch < batches; batch += grid.x) {
        for (uint head = place.y; head < call.num_heads; head += grid.y) {
            for (uint tile = place.z; tile * TILE_QUERIES < call.seq_len; tile += grid.z) {
                if (is_refused) {
                    for (uint i = tile * TILE_QUERIES; i < min((tile + 1) * TILE_QUERIES, call.seq_len); i++) {
                        refuse(output + ((long(batch) * call.seq_len + i) * call.num_heads + head) * call.head_dim, call.head_dim, thread_index, threads);
                    }
                    continue;
                }
                HEAD_DIMS(ATTEND_QUERIES) {}
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
    }
}

kernel void fused_attention(
    device const half *query [[buffer(0)]],
    device const half *key [[buffer(1)]],
    device const half *value [[buffer(2)]],
    device half *output [[buffer(3)]],
    constant FusedAttentionParams &params [[buffer(4)]],
    threadgroup half *unused [[threadgroup(0)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint3 grid [[threadgroups_per_grid]],
    uint3 threads [[threads_per_threadgroup]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    (void)unused;
    threadgroup half4 tile_memory[STAGED_BYTES / 8];
    attend_sequences(
        query, key, value, output, params, 1, (threadgroup half *)tile_memory, place, grid, threads.x * threads.y * threads.z, thread_index, simdgroup_index, lane);
}

kernel void fused_attention_f16(
    device const half *query [[buffer(0)]],
    device const half *key [[buffer(1)]],
    device const half *value [[buffer(2)]],
    device half *output [[buffer(3)]],
    constant FusedAttentionParams &params [[buffer(4)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint3 grid [[threadgroups_per_grid]],
    uint3 threads [[threads_per_threadgroup]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    threadgroup half4 tile_memory[STAGED_BYTES / 8];
    attend_sequences(
        query, key, value, output, params, 1, (threadgroup half *)tile_memory, place, grid, threads.x * threads.y * threads.z, thread_index, simdgroup_index, lane);
}

kernel void fused_attention_batched(
    device const half *query [[buffer(0)]],
    device const half *key [[buffer(1)]],
    device const half *value [[buffer(2)]],
    device half *output [[buffer(3)]],
    constant FusedAttentionParams &params [[buffer(4)]],
    constant uint &batch_size [[buffer(5)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint3 grid [[threadgroups_per_grid]],
    uint3 threads [[threads_per_threadgroup]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    threadgroup half4 tile_memory[STAGED_BYTES / 8];
    attend_sequences(
        query, key, value, output, params, batch_size, (threadgroup half *)tile_memory, place, grid, threads.x * threads.y * threads.z, thread_index, simdgroup_index, lane);
}

// Keys of a sequence that are there: with a stride of the tables, num_blocks is the number of blocks, and a sequence ends before the first block that does not exist.
INLINE int keys_of_table(device const uint *table, int key_count, thread const PagedAttentionParams &call, uint lane)
{
    int end = key_count;
    int blocks = (key_count + int(call.block_size) - 1) / int(call.block_size);
    for (int block = int(lane); block < blocks; block += 32) {
        if (table[block] >= call.num_blocks) end = min(end, block * int(call.block_size));
    }
    return simd_min(end);
}

kernel void paged_attention(
    device const half *query [[buffer(0)]],
    device const half *key_cache [[buffer(1)]],
    device const half *value_cache [[buffer(2)]],
    device const uint *block_tables [[buffer(3)]],
    device const uint *context_lens [[buffer(4)]],
    device half *output [[buffer(5)]],
    constant PagedAttentionParams &params [[buffer(6)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint3 grid [[threadgroups_per_grid]],
    uint3 threads [[threads_per_threadgroup]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    threadgroup float4 shared_outputs[MOST_SHARED_OUTPUTS];
    threadgroup float2 shared_statistics[SIMDGROUPS / 2];
    threadgroup int2 special_keys[MOST_SIMDGROUPS];

    PagedAttentionParams call = {
        params.num_heads, params.num_kv_heads, params.head_dim, params.block_size, params.num_blocks, params.scale, params.causal, params.table_stride};
    uint thread_count = threads.x * threads.y * threads.z;
    bool is_refused = call.head_dim == 0 || call.head_dim > LARGEST_HEAD_DIM || thread_count < SIMDGROUPS * 32 || call.block_size == 0;
    bool is_general = call.head_dim % 4 != 0 || !is_plain_scale(call.scale);

    // The number of sequences is not told: it is what the grid says.
    uint token = place.z;
    uint table_stride = call.table_stride == 0 ? call.num_blocks : call.table_stride;
    device const uint *table = block_tables + long(token) * table_stride;
    int key_count = int(min(ulong(context_lens[token]), ulong(table_stride) * call.block_size));
    if (call.causal == CAUSAL_TOP_LEFT) key_count = min(key_count, int(token) + 1);
    if (call.table_stride != 0 && !is_refused) key_count = keys_of_table(table, key_count, call, lane);
    for (uint head = place.y; head < call.num_heads; head += grid.y) {
        if (is_refused) {
            refuse(output + (long(token) * call.num_heads + head) * call.head_dim, call.head_dim, thread_index, thread_count);
            continue;
        }
        HEAD_DIMS(ATTEND_TOKEN) {}
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
