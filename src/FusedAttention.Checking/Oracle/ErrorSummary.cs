namespace FusedAttention.Checking.Oracle;

/// <summary>How far numbers are from what was expected.</summary>
public sealed record ErrorSummary
{
    /// <summary>The largest |error|.</summary>
    public double MaxAbsolute { get; private init; }

    /// <summary>The root of the mean square of the error.</summary>
    public double RootMeanSquare { get; private init; }

    /// <summary>The largest |error| over the largest |expected|.</summary>
    public double MaxRelative { get; private init; }

    /// <summary>The largest |error| in units of its limit: 1 or less passes.</summary>
    public double WorstRatio { get; private init; }

    /// <summary>The error at the place that comes closest to its limit or passes it most.</summary>
    public double WorstError { get; private init; }

    /// <summary>The limit at that place.</summary>
    public double WorstLimit { get; private init; }

    /// <summary>That place; -1 when there are no numbers.</summary>
    public int WorstIndex { get; private init; } = -1;

    public int Count { get; private init; }

    public bool Passed => WorstRatio <= 1;

    /// <summary>
    /// Compares numbers. An infinity or NaN must stand exactly where one is expected, and nowhere else: anything else there is an infinite error.
    /// </summary>
    /// <param name="actual">What was computed.</param>
    /// <param name="expected">What is right.</param>
    /// <param name="limit">The largest |error| that passes, at an index.</param>
    public static ErrorSummary Compare(ReadOnlySpan<double> actual, ReadOnlySpan<double> expected, Func<int, double> limit)
    {
        if (actual.Length != expected.Length) throw new ArgumentException($"{actual.Length} numbers cannot be compared with {expected.Length}.", nameof(actual));
        double max = 0, squares = 0, size = 0, worst = -1, worstError = 0, worstLimit = 0;
        int worstIndex = -1;
        for (int i = 0; i < actual.Length; i++)
        {
            double error = Error(actual[i], expected[i]);
            double allowed = limit(i);
            double ratio = error == 0 ? 0 : error / allowed;
            max = Math.Max(max, error);
            squares += error * error;
            if (double.IsFinite(expected[i])) size = Math.Max(size, Math.Abs(expected[i]));
            if (ratio > worst || double.IsNaN(ratio)) (worst, worstError, worstLimit, worstIndex) = (double.IsNaN(ratio) ? double.PositiveInfinity : ratio, error, allowed, i);
        }

        return new()
        {
            MaxAbsolute = max,
            RootMeanSquare = actual.Length == 0 ? 0 : Math.Sqrt(squares / actual.Length),
            MaxRelative = max == 0 ? 0 : max / size,
            WorstRatio = Math.Max(worst, 0),
            WorstError = worstError,
            WorstLimit = worstLimit,
            WorstIndex = worstIndex,
            Count = actual.Length,
        };
    }

    private static double Error(double actual, double expected)
    {
        if (actual.Equals(expected)) return 0;
        double error = Math.Abs(actual - expected);
        return double.IsFinite(error) ? error : double.PositiveInfinity;
    }
}
