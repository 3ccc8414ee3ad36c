// Writing a paged cache: new tokens into their slots, and slots from one block to another. From the host, ELEMENT_T is what the cache holds. Where only bits move, it is an unsigned integer of the size of
// an element; where new tokens are converted, it is the element type, and SOURCE_T is that of the tokens.

#define THREADS 128

#ifdef SOURCE_T
INLINE ELEMENT_T stored(SOURCE_T x) { return narrow<ELEMENT_T>(widen(x)); }
#else
#define SOURCE_T ELEMENT_T
INLINE ELEMENT_T stored(ELEMENT_T x) { return x; }
#endif

// A threadgroup writes the keys (grid y 0) or values (1) of one token: all heads, side by side in the slot.
THREADGROUP_OF(THREADS) kernel void append(
    device const SOURCE_T *keys [[buffer(0)]],
    device const SOURCE_T *values [[buffer(1)]],
    device ELEMENT_T *key_cache [[buffer(2)]],
    device ELEMENT_T *value_cache [[buffer(3)]],
    device const long *slots [[buffer(4)]],
    constant CacheParameters &parameters [[buffer(5)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]])
{
    bool is_value = place.y == 1;
    int dim = is_value ? parameters.value_dim : parameters.key_dim;
    long token_stride = is_value ? parameters.value_token_stride : parameters.key_token_stride;
    long head_stride = is_value ? parameters.value_head_stride : parameters.key_head_stride;
    device const SOURCE_T *from = (is_value ? values : keys) + place.x * token_stride;
    device ELEMENT_T *to = (is_value ? value_cache : key_cache) + slots[place.x] * parameters.heads * dim;
    for (int i = int(thread_index); i < parameters.heads * dim; i += THREADS) {
        int head = i / dim;
        to[i] = stored(from[head * head_stride + (i - head * dim)]);
    }
}

// A threadgroup copies one slot of keys (grid z 0) or values (1); grid y is the slot within its block.
THREADGROUP_OF(THREADS) kernel void copy_slots(
    device ELEMENT_T *key_cache [[buffer(2)]],
    device ELEMENT_T *value_cache [[buffer(3)]],
    device const SlotCopy *copies [[buffer(4)]],
    constant CacheParameters &parameters [[buffer(5)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]])
{
    SlotCopy copy = copies[place.x];
    if (place.y >= copy.slots) return;
    bool is_value = place.z == 1;
    int elements = parameters.heads * (is_value ? parameters.value_dim : parameters.key_dim);
    device ELEMENT_T *cache = is_value ? value_cache : key_cache;
    device const ELEMENT_T *from = cache + (copy.from + place.y) * elements;
    device ELEMENT_T *to = cache + (copy.to + place.y) * elements;
    for (int i = int(thread_index); i < elements; i += THREADS) to[i] = from[i];
}
