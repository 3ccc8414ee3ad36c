using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests;

public sealed class PreparedCallTests
{
    [Theory]
    [InlineData("F32")]
    [InlineData("F16")]
    [InlineData("BF16")]
    public void Poisoned_outputs_are_nan_in_every_type(string typeName)
    {
        using PreparedCall prepared = Prepare(TensorElementTypes.FromSafeTensorsName(typeName)!.Value);
        prepared.Poison();
        Assert.Equal(20, prepared.Output.ToDoubles().Count(double.IsNaN));
        Assert.Equal(4, prepared.LogSumExp.ToDoubles().Count(double.IsNaN));

        prepared.Invoke(AttentionOptions.Default, RunOptions.Default);
        Assert.Equal(0, prepared.Output.ToDoubles().Concat(prepared.LogSumExp.ToDoubles()).Count(double.IsNaN));
    }

    /// <summary>Engines do not ask for it, and it may cost time.</summary>
    [Fact]
    public void What_is_timed_is_without_a_log_sum_exp()
    {
        using PreparedCall prepared = Prepare(TensorElementType.Float32);
        prepared.Poison();
        Assert.True(CallTimes.Measure(prepared, RunOptions.Default, TimeSpan.Zero, static _ => { }).Trials >= 3);
        Assert.Equal((0, 4), (prepared.Output.ToDoubles().Count(double.IsNaN), prepared.LogSumExp.ToDoubles().Count(double.IsNaN)));
    }

    private static PreparedCall Prepare(TensorElementType type) => CpuBackend.Instance.Prepare(new CallInputs
    {
        Query = GeneratedCases.Random<float>("q", 1, 2, 2, 3).ConvertTo(type),
        Key = GeneratedCases.Random<float>("k", 2, 4, 1, 3).ConvertTo(type),
        Value = GeneratedCases.Random<float>("v", 3, 4, 1, 5).ConvertTo(type),
        Options = AttentionOptions.Default,
    });
}
