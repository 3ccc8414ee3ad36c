// Slopes of ALiBi, as the host has them: a table, one a query head.

struct AlibiSlopes {
    device const float *of_heads;
};

INLINE float slope_of(AlibiSlopes slopes, int head) { return slopes.of_heads[head]; }
