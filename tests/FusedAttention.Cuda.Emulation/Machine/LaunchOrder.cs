namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>In which order blocks run, and the warps of a block between two barriers.</summary>
/// <param name="Kind">Which.</param>
/// <param name="Seed">Of a shuffled order.</param>
internal sealed record LaunchOrder(OrderKind Kind, int Seed = 0)
{
    public static readonly LaunchOrder Forward = new(OrderKind.Forward), Reverse = new(OrderKind.Reverse);

    /// <summary>Instructions of a warp until it is another one's turn: few of them where the order is shuffled.</summary>
    public long Turn(Random random) => Kind == OrderKind.Shuffled ? random.Next(1, 400) : long.MaxValue;

    /// <summary>The numbers below a count, in this order.</summary>
    public int[] Of(int count, Random random)
    {
        int[] numbers = [.. Enumerable.Range(0, count)];
        if (Kind == OrderKind.Reverse) Array.Reverse(numbers);
        if (Kind == OrderKind.Shuffled) random.Shuffle(numbers);
        return numbers;
    }
}

/// <summary>An order of blocks and warps.</summary>
internal enum OrderKind
{
    Forward,
    Reverse,
    Shuffled,
}
