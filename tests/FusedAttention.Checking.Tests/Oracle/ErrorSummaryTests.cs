using FusedAttention.Checking.Oracle;
using Xunit;

namespace FusedAttention.Checking.Tests;

public sealed class ErrorSummaryTests
{
    [Fact]
    public void An_error_at_its_limit_passes_and_one_beyond_fails()
    {
        Assert.True(ErrorSummary.Compare([1.5], [1], _ => 0.5).Passed);
        Assert.False(ErrorSummary.Compare([1.5], [1], _ => 0.4999).Passed);
        Assert.False(ErrorSummary.Compare([double.NaN], [1], _ => 1e300).Passed);
        Assert.False(ErrorSummary.Compare([1], [double.NaN], _ => 1e300).Passed);
        Assert.False(ErrorSummary.Compare([-1e38], [double.NegativeInfinity], _ => double.PositiveInfinity).Passed);
        Assert.False(ErrorSummary.Compare([double.PositiveInfinity], [double.NegativeInfinity], _ => 1).Passed);
        Assert.True(ErrorSummary.Compare([double.NegativeInfinity, double.NaN], [double.NegativeInfinity, double.NaN], _ => 0).Passed);
        Assert.True(ErrorSummary.Compare([], [], _ => 0).Passed);

        ErrorSummary error = ErrorSummary.Compare([1, 2, 3, 8], [1, 2.5, 3, 10], i => i == 1 ? 0.25 : 4);
        Assert.Equal((2, 0.5, 0.25, 1, 2), (error.MaxAbsolute, error.WorstError, error.WorstLimit, error.WorstIndex, error.WorstRatio));
        Assert.Equal(Math.Sqrt(4.25 / 4), error.RootMeanSquare, 15);
        Assert.Equal(0.2, error.MaxRelative, 15);
    }
}
