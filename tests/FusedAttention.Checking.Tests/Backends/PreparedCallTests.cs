using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Formats;
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
        TensorElementType type = TensorElementTypes.FromSafeTensorsName(typeName)!.Value;
        using PreparedCall prepared = CpuBackend.Instance.Prepare(new CallInputs
        {
            Query = GeneratedCases.Random<float>("q", 1, 2, 2, 3).ConvertTo(type),
            Key = GeneratedCases.Random<float>("k", 2, 4, 1, 3).ConvertTo(type),
            Value = GeneratedCases.Random<float>("v", 3, 4, 1, 5).ConvertTo(type),
            Options = AttentionOptions.Default,
        });

        prepared.Poison();
        Assert.Equal(20, prepared.Output.ToDoubles().Count(double.IsNaN));
        Assert.Equal(4, prepared.LogSumExp.ToDoubles().Count(double.IsNaN));

        prepared.Invoke(AttentionOptions.Default, RunOptions.Default);
        Assert.Equal(0, prepared.Output.ToDoubles().Concat(prepared.LogSumExp.ToDoubles()).Count(double.IsNaN));
    }
}
