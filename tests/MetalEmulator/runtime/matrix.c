// Products of 8x8 matrices: every lane posts two elements of each factor and computes its two of the result, terms in the order of k.
#include "emulator.h"
#include <lane_map_data.h>
#include <string.h>

static const uint8_t rows[2 * LANES] = {METAL_EMULATOR_LANE_ROWS};
static const uint8_t columns[2 * LANES] = {METAL_EMULATOR_LANE_COLUMNS};
static uint8_t place_of[8][8]; // 2 * lane + element of (row, column)
static int places_known;

const uint64_t *metal_emulator_exchange(uint64_t low, uint64_t high, const char *file, uint32_t line, uint32_t column);
uint64_t metal_emulator_multiply_accumulate(uint64_t a, uint64_t b, uint64_t c, const char *file, uint32_t line, uint32_t column);

static void learn_places(void) {
    uint64_t seen = 0;
    for (int i = 0; i < 2 * LANES; i++) {
        place_of[rows[i]][columns[i]] = (uint8_t)i;
        seen |= (uint64_t)1 << (8 * rows[i] + columns[i]);
    }
    if (seen != UINT64_MAX) fail("the lane map does not cover all 64 elements");
    places_known = 1;
}

static float element(const uint64_t *slots, int word, int place) {
    uint32_t bits = (uint32_t)(slots[2 * (place / 2) + word] >> (32 * (place % 2)));
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint64_t metal_emulator_multiply_accumulate(uint64_t a, uint64_t b, uint64_t c, const char *file, uint32_t line, uint32_t column) {
    if (!places_known) learn_places();
    const uint64_t *slots = metal_emulator_exchange(a, b, file, line, column);
    float sums[2];
    memcpy(sums, &c, sizeof sums);
    for (int e = 0; e < 2; e++) {
        int place = 2 * (int)(current_thread % LANES) + e;
        for (int k = 0; k < 8; k++) sums[e] = __builtin_fmaf(element(slots, 0, place_of[rows[place]][k]), element(slots, 1, place_of[k][columns[place]]), sums[e]);
    }
    uint64_t result;
    memcpy(&result, sums, sizeof result);
    return result;
}
