using Xunit;

namespace FusedAttention.Tests;

/// <summary>How a call runs: what it holds and refuses, and what became of the options that said it before.</summary>
public sealed class CpuExecutionTests
{
    private static readonly AttentionShape Shape = new(1, 64, 64, 2, 1, 32);

    [Fact]
    public void Defaults_are_all_processors_and_the_best_variant()
    {
        Assert.Equal(CpuExecution.Default, new CpuExecution());
        Assert.Equal(-1, CpuExecution.Default.MaxDegreeOfParallelism);
        Assert.Equal(CpuInstructionSet.Auto, CpuExecution.Default.InstructionSet);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-2)]
    [InlineData(int.MinValue)]
    public void Parallelism_must_be_positive_or_minus_one(int threads)
    {
        var error = Assert.Throws<ArgumentOutOfRangeException>(() => new CpuExecution { MaxDegreeOfParallelism = threads });
        Assert.Equal("MaxDegreeOfParallelism", error.ParamName);
        Assert.Contains($"{threads}", error.Message, StringComparison.Ordinal);
    }

#pragma warning disable CS0618 // what programs from before CpuExecution say, until 1.0
    [Fact]
    public void Options_that_said_how_still_do_where_the_call_says_nothing()
    {
        var options = new AttentionOptions { InstructionSet = CpuInstructionSet.Scalar, MaxDegreeOfParallelism = 1, CancellationToken = new(canceled: true) };
        Assert.Equal((CpuInstructionSet.Scalar, 1), (options.InstructionSet, options.MaxDegreeOfParallelism));
        Assert.Equal(options, new AttentionOptions { MaxDegreeOfParallelism = 1, InstructionSet = CpuInstructionSet.Scalar, CancellationToken = options.CancellationToken });
        Assert.NotEqual(options, options with { MaxDegreeOfParallelism = 2 });
        Assert.Equal("MaxDegreeOfParallelism", Assert.Throws<ArgumentOutOfRangeException>(() => new AttentionOptions { MaxDegreeOfParallelism = 0 }).ParamName);

        AttentionExplanation explained = Attention.Explain<float, float>(Shape, options);
        Assert.Equal((CpuInstructionSet.Scalar, 1), (explained.InstructionSet, explained.Threads));
        Assert.Contains("at most 1 by MaxDegreeOfParallelism", explained.Details, StringComparison.Ordinal);
        Assert.Throws<OperationCanceledException>(() => Run(options));
        Assert.Throws<ArgumentException>(() => Run(new() { InstructionSet = (CpuInstructionSet)99 }));
    }

    [Fact]
    public void What_the_call_says_comes_before_what_its_options_said()
    {
        var options = new AttentionOptions { InstructionSet = (CpuInstructionSet)99, CancellationToken = new(canceled: true) };
        using var source = new CancellationTokenSource();
        Run(options, CpuExecution.Default, source.Token);
        Assert.Contains("at most 3 by MaxDegreeOfParallelism", Attention.Explain<float, float>(Shape, options, new() { MaxDegreeOfParallelism = 3 }).Details, StringComparison.Ordinal);
    }
#pragma warning restore CS0618

    private static void Run(AttentionOptions options, CpuExecution? execution = null, CancellationToken cancellationToken = default)
    {
        var query = new float[64 * 2 * 32];
        var key = new float[64 * 32];
        Attention.Forward<float, float>(query, key, key, query.ToArray(), Shape, options, execution: execution, cancellationToken: cancellationToken);
    }
}
