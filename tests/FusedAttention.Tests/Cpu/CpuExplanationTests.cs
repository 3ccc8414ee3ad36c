using System.Text.RegularExpressions;
using Xunit;

namespace FusedAttention.Tests.Cpu;

/// <summary>What <see cref="Attention.Explain{TQuery, TKeyValue}(in AttentionShape, AttentionOptions?, CpuExecution?)"/> says of calls on the CPU, whole. The scalar variant on one thread is the same on every machine.</summary>
public sealed partial class CpuExplanationTests
{
    private static readonly AttentionOptions Options = new() { Mask = AttentionMask.Causal };

    private static readonly CpuExecution Execution = new() { InstructionSet = CpuInstructionSet.Scalar, MaxDegreeOfParallelism = 1 };

    [Fact]
    public void Of_a_prefill() => AssertSays(
        Attention.Explain<float, Half>(new AttentionShape(2, 512, 1024, 8, 2, 64), Options, Execution),
        """
        backend          cpu
        kernel           prefill
        instruction set  Scalar
        threads          1
        work items       8
        arithmetic       1.612 GFLOP
        keys and values  1.049 MB
        scratch          0.721 MB
        shape            2 sequences, 8 query heads over 2 key/value heads, dim 64, queries of Float32, keys and values of Float16
        mask             causal, BottomRight
                         Scalar was asked for
        prefill          2 sequences (more than 1 query and more than 16 rows a key/value head)
                         tiles of 256 keys, register tile 6 x 2, strips of up to 28 rows
        processors       N, at most 1 by MaxDegreeOfParallelism
        """);

    [Fact]
    public void Of_prefill_and_decode_in_a_paged_cache() => AssertSays(
        Attention.Explain<BFloat16, BFloat16>(new AttentionShape(1, 1, 1, 32, 8, 128), [1, 300, 1, 0], [9000, 300, 40, 7], blockSize: 16, Options, Execution),
        """
        backend          cpu
        kernel           prefill + decode
        instruction set  Scalar
        threads          1
        work items       35
        arithmetic       0.888 GFLOP
        keys and values  38.257 MB
        scratch          1.684 MB
        shape            4 sequences, 32 query heads over 8 key/value heads, dim 128, queries of BFloat16, keys and values of BFloat16, blocks of 16
        mask             causal, BottomRight
                         Scalar was asked for
        prefill          1 sequence (more than 1 query and more than 16 rows a key/value head)
                         tiles of 256 keys, register tile 6 x 2, strips of up to 28 rows
        decode           2 sequences (1 query, or at most 16 rows a key/value head)
                         tiles of 128 keys, 1 sequence split into chunks of keys
        processors       N, at most 1 by MaxDegreeOfParallelism
        """);

    [Fact]
    public void Of_one_arithmetic_for_all_rows() => AssertSays(
        Attention.Explain<float, float>(new AttentionShape(1, 1, 1000, 4, 4, 64, 32), Options with { RowInvariant = true, Mask = AttentionMask.CausalWindow(100) }, Execution),
        """
        backend          cpu
        kernel           prefill
        instruction set  Scalar
        threads          1
        work items       4
        arithmetic       77568 FLOP
        keys and values  0.155 MB
        scratch          0.113 MB
        shape            1 sequence, 4 query heads over 4 key/value heads, keys of dim 64, values of 32, queries of Float32, keys and values of Float32
        mask             causal window(100, *), BottomRight
                         Scalar was asked for
        prefill          1 sequence (all, because RowInvariant asks for one arithmetic)
                         tiles of 256 keys, register tile 6 x 2, strips of up to 28 rows
        processors       N, at most 1 by MaxDegreeOfParallelism
        """);

    [Fact]
    public void Of_numbers_beyond_floats() => AssertSays(
        Attention.Explain<float, float>(new AttentionShape(1, 3, 10, 1, 1, 64), Options with { Scale = 1e6f }, Execution),
        """
        backend          cpu
        kernel           double precision
        instruction set  Scalar
        threads          1
        work items       1
        arithmetic       6912 FLOP
        keys and values  0.005 MB
        scratch          0 MB
        shape            1 sequence, 1 query heads over 1 key/value heads, dim 64, queries of Float32, keys and values of Float32
        mask             causal, BottomRight
                         Scalar was asked for
        double precision 1 sequence (scale, soft cap or a slope is beyond what 32-bit sums can be trusted with: slower by an order of magnitude)
        processors       N, at most 1 by MaxDegreeOfParallelism
        """);

    [Fact]
    public void The_default_is_named_as_such()
        => Assert.Contains(
            $"{Variants.Expected} is what this process runs by default", Attention.Explain<float, float>(new AttentionShape(1, 3, 10, 1, 1, 64)).ToString(), StringComparison.OrdinalIgnoreCase);

    private static void AssertSays(AttentionExplanation explanation, string text) => Snapshot.AssertSame(text, Processors().Replace(explanation.ToString(), "processors       N"));

    [GeneratedRegex(@"processors       \d+", RegexOptions.None, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Processors();
}
