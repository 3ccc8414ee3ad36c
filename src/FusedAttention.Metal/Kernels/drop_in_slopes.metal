// Slopes of ALiBi for a file that stands alone: computed from the number of heads, which need not be a power of two (Press et al. 2022, arXiv:2108.12409).

struct AlibiSlopes {
    int heads;                          // 0: no head has a slope
};

INLINE float slope_of(AlibiSlopes slopes, int head)
{
    if (slopes.heads == 0) return 0.0f;
    int power = 1;
    while (power * 2 <= slopes.heads) power *= 2;
    float exponent = head < power ? -8.0f * float(head + 1) / float(power) : -4.0f * float(2 * (head - power) + 1) / float(power);
    return precise::exp2(exponent);
}
