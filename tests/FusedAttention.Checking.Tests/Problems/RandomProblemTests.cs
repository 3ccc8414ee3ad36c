using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>The maker of random problems: the same numbers every time, and NaN wherever no query may look.</summary>
public sealed class RandomProblemTests
{
    [Fact]
    public void Numbers_repeat_after_their_period_and_nowhere_else()
    {
        var numbers = RandomNumbers.Uniform(3, long.MaxValue, amplitude: 2);
        float[] all = new float[(2 * RandomNumbers.Period) + 5];
        numbers.CopyTo(all);
        Assert.Equal(all[..RandomNumbers.Period], all[RandomNumbers.Period..(2 * RandomNumbers.Period)]);
        Assert.Equal(all[..5], all[(2 * RandomNumbers.Period)..]);
        Assert.InRange(all.Max(), 1.99f, 2);
        Assert.InRange(all.Min(), -2, -1.99f);
        Assert.NotEqual(all[..1000], all[1000..2000]);

        float[] some = new float[7];
        numbers.CopyTo(some, RandomNumbers.Period - 3L);
        Assert.Equal(all[(RandomNumbers.Period - 3)..(RandomNumbers.Period + 4)], some);

        float[] normal = new float[100_000];
        RandomNumbers.Normal(3, normal.Length).CopyTo(normal);
        Assert.InRange(normal.Average(), -0.02, 0.02);
        Assert.InRange(normal.Average(static x => x * x), 0.97, 1.03);
    }

    [Theory]
    [InlineData(TensorElementType.Float32)]
    [InlineData(TensorElementType.Float16)]
    [InlineData(TensorElementType.BFloat16)]
    public void A_tensor_beyond_the_period_holds_the_numbers_rounded(TensorElementType type)
    {
        const int Count = RandomNumbers.Period + 77;
        var numbers = RandomNumbers.Uniform(4, Count, 1);
        float[] expected = new float[Count];
        numbers.CopyTo(expected);

        LoadedTensor tensor = numbers.ToTensor("x", type, Count, 1);

        Assert.True(LoadedTensor.Create<float>("x", expected, Count, 1).ConvertTo(type).Bytes.SequenceEqual(tensor.Bytes));
    }

    [Theory]
    [InlineData(SequenceLayout.Dense)]
    [InlineData(SequenceLayout.VariableLength)]
    [InlineData(SequenceLayout.Paged)]
    public void What_no_query_may_see_is_nan_and_nothing_else(SequenceLayout layout)
    {
        int[] lengths = [9, 0, 4];
        CallRecipe recipe = new() { Layout = layout, QueryLengths = [2, 2, 2], KeyLengths = lengths, BlockSize = 4, KeyDim = 3, ValueDim = 5, KeyValueType = TensorElementType.BFloat16, QueryType = TensorElementType.BFloat16 };

        CallInputs call = recipe.CreateCall(RunOptions.Default);

        Assert.DoesNotContain(call.Query.ToDoubles(), double.IsNaN);
        foreach ((LoadedTensor tensor, int width) in new[] { (call.Key, 2 * 3), (call.Value, 2 * 5) })
        {
            double[] numbers = tensor.ToDoubles();
            var seen = new HashSet<int>();
            for (int s = 0; s < lengths.Length; s++)
            {
                for (int key = 0; key < lengths[s]; key++) seen.Add(call.KeyToken(s, key));
            }

            Assert.Equal(13, seen.Count);
            for (int token = 0; token < numbers.Length / width; token++)
                Assert.All(numbers[(token * width)..((token + 1) * width)], number => Assert.Equal(!seen.Contains(token), double.IsNaN(number)));
        }
    }

    [Fact]
    public void A_paged_call_has_spares_only_if_it_is_to()
    {
        var recipe = new CallRecipe { Layout = SequenceLayout.Paged, QueryLengths = [1, 1], KeyLengths = [5, 8], BlockSize = 4 };

        CallInputs with = recipe.CreateCall(RunOptions.Default), without = (recipe with { HasSpares = false }).CreateCall(RunOptions.Default);

        Assert.Equal((5, 3), (with.Key.Shape[0], with.MaxBlocksPerSequence));
        Assert.Equal(2, with.BlockTables.Count(static block => block == -1));
        Assert.Equal((4, 2), (without.Key.Shape[0], without.MaxBlocksPerSequence));
        Assert.Equal([0, 1, 2, 3], without.BlockTables.Order());
    }

    [Theory]
    [InlineData(1, 2_000_000_000, null, "k [1, 2000000000, 1, 64] passes")]
    [InlineData(70_000, 70_000, 1, "70000 sequences of 1 queries and 70000 blocks pass 2^31")]
    public void What_memory_cannot_hold_is_refused_with_numbers(int batch, int keys, int? blockSize, string words)
    {
        var shape = new CallShape
        {
            Batch = batch, QueryHeads = 1, KeyValueHeads = 1, QueryLength = 1, KeyLength = keys, KeyDim = 64, ValueDim = 64,
            QueryType = TensorElementType.Float32, KeyValueType = TensorElementType.Float32, Mask = AttentionMask.Full, BlockSize = blockSize,
        };

        Assert.Contains(words, Assert.Throws<UsageException>(() => shape.CreateCall(RunOptions.Default)).Message, StringComparison.Ordinal);
    }
}
