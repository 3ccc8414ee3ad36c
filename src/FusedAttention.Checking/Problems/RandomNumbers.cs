using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Problems;

/// <summary>
/// Random numbers, a function of their seed alone: the one source of every random tensor. They repeat after <see cref="Period"/>: making gigabytes of them would outlast what they are
/// made for, a benchmark.
/// </summary>
public sealed class RandomNumbers
{
    /// <summary>A prime, so that no two rows of a tensor begin at the same number before all numbers have been used.</summary>
    public const int Period = 1_000_003;

    private readonly float[] _numbers;

    private RandomNumbers(int seed, long count, Func<Random, float> next)
    {
        var random = new Random(seed);
        _numbers = new float[Math.Min(count, Period)];
        foreach (ref float number in _numbers.AsSpan()) number = next(random);
    }

    /// <summary>Numbers between plus and minus an amplitude, all equally likely.</summary>
    /// <param name="seed">Decides them.</param>
    /// <param name="count">How many will be asked for.</param>
    /// <param name="amplitude">The largest magnitude.</param>
    public static RandomNumbers Uniform(int seed, long count, double amplitude) => new(seed, count, random => (float)(((random.NextDouble() * 2) - 1) * amplitude));

    /// <summary>Numbers of the normal distribution N(0, 1).</summary>
    /// <param name="seed">Decides them.</param>
    /// <param name="count">How many will be asked for.</param>
    public static RandomNumbers Normal(int seed, long count)
        => new(seed, count, static random => (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble())));

    /// <summary>The numbers from an index on.</summary>
    public void CopyTo(Span<float> destination, long start = 0)
    {
        while (!destination.IsEmpty)
        {
            ReadOnlySpan<float> next = _numbers.AsSpan((int)(start % _numbers.Length));
            next = next[..Math.Min(next.Length, destination.Length)];
            next.CopyTo(destination);
            destination = destination[next.Length..];
            start += next.Length;
        }
    }

    /// <summary>A tensor of them: <see cref="ToBytes"/>.</summary>
    public LoadedTensor ToTensor(string name, TensorElementType type, params ReadOnlySpan<long> shape) => new(name, type, [.. shape], ToBytes(name, type, shape));

    /// <summary>The bytes of a tensor of them in row-major order, each rounded once to an element type.</summary>
    /// <param name="name">What an error calls the tensor.</param>
    /// <param name="type">The element type.</param>
    /// <param name="shape">The shape.</param>
    /// <exception cref="UsageException">It is larger than a tensor may be here.</exception>
    public byte[] ToBytes(string name, TensorElementType type, params ReadOnlySpan<long> shape)
    {
        long? count = LoadedTensor.TryCountElements(shape);
        if (count is null || count > TensorFile.MaxTensorBytes / type.SizeInBytes())
            throw new UsageException($"{name} {LoadedTensor.Describe(shape)} passes {TensorFile.MaxTensorBytes} bytes, which is as much as this tool holds in one tensor.");
        byte[] bytes = GC.AllocateUninitializedArray<byte>((int)count * type.SizeInBytes());

        // Rounded once a period, then copied: to round every element would take longer than a large benchmark.
        ReadOnlySpan<byte> period = LoadedTensor.Create<float>(name, _numbers, _numbers.Length).ConvertTo(type).Bytes;
        for (int i = 0; i < bytes.Length; i += period.Length) period[..Math.Min(period.Length, bytes.Length - i)].CopyTo(bytes.AsSpan(i));
        return bytes;
    }
}
