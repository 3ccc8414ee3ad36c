namespace FusedAttention.Comparison.Reporting;

/// <summary>From values to places on an axis, with the ticks to draw.</summary>
internal sealed class ChartScale
{
    private readonly Func<double, double> _transform;
    private readonly double _low;
    private readonly double _high;
    private readonly double _from;
    private readonly double _to;

    private ChartScale(Func<double, double> transform, double low, double high, double from, double to, IReadOnlyList<double> ticks)
    {
        _transform = transform;
        (_low, _high) = (transform(low), transform(high));
        (_from, _to) = (from, to);
        Ticks = ticks;
    }

    public IReadOnlyList<double> Ticks { get; }

    /// <summary>From 0 to a round number at or above <paramref name="max"/>, in 4 to 6 steps of 1, 2 or 5 times a power of ten.</summary>
    public static ChartScale FromZero(double max, double from, double to)
    {
        if (!(max > 0)) max = 1;
        double magnitude = Math.Pow(10, Math.Floor(Math.Log10(max)));
        double step = new[] { 0.1, 0.2, 0.5, 1, 2 }.Select(s => s * magnitude).First(s => max / s <= 6);
        int steps = (int)Math.Ceiling((max / step) - 1e-9);
        return new(static v => v, 0, steps * step, from, to, [.. Enumerable.Range(0, steps + 1).Select(i => i * step)]);
    }

    /// <summary>Logarithmic between two values, with ticks at those given that lie inside.</summary>
    public static ChartScale Logarithmic(double min, double max, double from, double to, IEnumerable<double> ticks)
    {
        // A single value gets room on both sides.
        if (!(max > min)) (min, max) = (min / 2, min * 2);
        return new(Math.Log2, min, max, from, to, [.. ticks.Where(t => t >= min * 0.999 && t <= max * 1.001)]);
    }

    public double Position(double value) => _from + ((_transform(value) - _low) / (_high - _low) * (_to - _from));
}
