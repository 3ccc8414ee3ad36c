namespace FusedAttention.Testing;

/// <summary>Rows that show whether a device quantizes as the processor does.</summary>
internal static class QuantizationCases
{
    /// <summary>
    /// Every finite pattern of a 16-bit type and floats of every exponent, several times: alone, and in rows of neighbours, of everything, and of what is shrunk by one large number. So scales and quotients are subnormal, and zero,
    /// and quotients fall on and beside every border between two codes.
    /// </summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    public static IEnumerable<(string What, T[] Rows, int Dim)> Of<T>()
        where T : unmanaged
    {
        var numbers = (T[])(object)(typeof(T) == typeof(float) ? Floats()
            : typeof(T) == typeof(Half) ? Patterns(static bits => BitConverter.UInt16BitsToHalf(bits)).Where(Half.IsFinite).ToArray()
            : Patterns(static bits => BFloat16.FromBits(bits)).Where(static x => float.IsFinite(x)).ToArray());
        T[] shuffled = [.. numbers], led = [.. numbers];
        new Random(1).Shuffle(shuffled);

        // The first of 33 is what the others are measured by.
        var random = new Random(2);
        for (int i = 0; i < led.Length; i += 33) led[i] = numbers[random.Next(numbers.Length)];
        return [("alone", numbers, 1), ("neighbours", numbers, 7), ("led", led, 33), ("everything", shuffled, 64), ("long", numbers, 1000)];
    }

    /// <summary>Between -1 and 1, and one in 13 up to <paramref name="peak"/> times that.</summary>
    public static float[] Noise(int seed, int count, float peak = 9)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(i => ((random.NextSingle() * 2) - 1) * (i % 13 == 5 ? peak : 1))];
    }

    private static IEnumerable<TElement> Patterns<TElement>(Func<ushort, TElement> of) => Enumerable.Range(0, 1 << 16).Select(bits => of((ushort)bits));

    /// <summary>Every exponent with fractions at random and at both ends, and the middles between two codes times scales at random, and their neighbours: what rounding decides.</summary>
    private static float[] Floats()
    {
        var random = new Random(3);
        var floats = new List<float>();
        for (int exponent = 0; exponent < 255; exponent++)
        {
            foreach (int fraction in (int[])[0, 1, 0x7FFFFF, 0x400000, .. Enumerable.Range(0, 60).Select(_ => random.Next(1 << 23))])
                floats.Add(BitConverter.Int32BitsToSingle((exponent << 23) | fraction | (random.Next(2) << 31)));
        }

        for (int row = 0; row < 400; row++)
        {
            float scale = MathF.ScaleB(1 + random.NextSingle(), random.Next(-140, 100));
            floats.Add(scale * (row % 2 == 0 ? 127 : 448));
            for (int i = 1; i < 33; i++)
            {
                int code = random.Next(0x7E);
                float near = scale * (row % 2 == 0 ? code - 63 + 0.5f : ((float)Float8E4M3.FromBits((byte)code) + (float)Float8E4M3.FromBits((byte)(code + 1))) / 2);
                floats.Add(i % 3 == 0 ? near : i % 3 == 1 ? MathF.BitIncrement(near) : MathF.BitDecrement(near));
            }
        }

        return [.. floats];
    }
}
