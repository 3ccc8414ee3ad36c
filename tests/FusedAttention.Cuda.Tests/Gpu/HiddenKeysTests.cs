using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>
/// What a row may not see, by position, window, mask, bias or length, cannot change a bit of it, whatever lies there; infinities and NaN in values that it does see show in their columns and in no others.
/// </summary>
public abstract class HiddenKeysTests
{
    private protected HiddenKeysTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    private static readonly float[] Specials = [float.NaN, float.PositiveInfinity, float.NegativeInfinity];

    public static TheoryData<string, string, string> Arrangements()
    {
        var cases = new TheoryData<string, string, string>();
        foreach (AttentionKernel kernel in GpuProblems.Kernels)
        {
            foreach (string type in (string[])["Float16", "BFloat16", "Float32"])
            {
                foreach (string hiding in (string[])["causal", "window", "mask", "bias", "bias of 16 bits", "paged", "packed"])
                    if (kernel == AttentionKernel.Plain || type is not "Float32") cases.Add(kernel.ToString(), type, hiding);
            }
        }

        return cases;
    }

    /// <summary>Random problems, whose keys and values are special as a whole here and there.</summary>
    [Fact]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give() => Problems.ForEach(Enumerable.Range(0, 70), (configuration, stream) =>
    {
        using GpuCaller chosen = new(stream.Device, null, stream), prefill = new(stream.Device, AttentionKernel.Prefill, stream), decode = new(stream.Device, AttentionKernel.Decode, stream);
        using GpuCaller plain = new(stream.Device, AttentionKernel.Plain, stream);
        GpuCaller[] forced = [prefill, decode, plain];
        for (int n = 0; n < Problems.Target.Times(6); n++)
        {
            (Problem problem, Arrangement arrangement, int shift, ProblemGenerator generator) = GpuConfiguration.Next(configuration, 630_001 + (configuration * 100) + n);
            if (!HiddenKeys.MayHide(problem)) continue;
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            Problem zeros = HiddenKeys.With(problem, victims, _ => 0, _ => 0);
            Problem poisoned = HiddenKeys.With(problem, victims, number => Specials[number % 3], number => Specials[(number / 3) % 3]);
            Problem infinite = HiddenKeys.With(problem, victims, _ => 0, _ => float.PositiveInfinity);
            foreach (GpuCaller caller in (GpuCaller[])[chosen, forced[n % 3]])
            {
                caller.Shift = shift;
                if (GpuProblems.TryRun(zeros, arrangement, caller) is not { } expected) continue;
                string what = $"{caller.Forced?.ToString() ?? "chosen kernel"}, configuration {configuration}, shifted by {shift}";
                Said(what + ", NaN and infinities", () => HiddenKeys.AssertHiddenBits(expected, GpuProblems.Run(poisoned, arrangement, caller), poisoned, victims));
                CallResult actual = GpuProblems.Run(infinite, arrangement, caller);
                Said(what + ", infinite values", () => HiddenKeys.AssertHiddenBits(expected, actual, infinite, victims));
                Said(what + ", infinite values", () => HiddenKeys.AssertSeenInfinities(actual, infinite, victims));
            }
        }
    });

    /// <summary>
    /// Each of many sequences has an infinity in its last value, which all queries but the last may not see: where items are done again for that, every one of them is, also when more are reported than are remembered.
    /// </summary>
    [Fact]
    public void Many_items_with_infinite_values_are_all_done_again()
    {
        const int Tokens = 17, Dim = 16, Column = 5;
        CudaDevice device = Problems.Open(AttentionKernel.Prefill);

        // Blocks that stay are as many as multiprocessors, and each remembers 48.
        int batch = Math.Min(device.Multiprocessors, 132) * 80, row = Dim, sequence = Tokens * Dim;
        var random = new Random(3);
        Half[] query = Numbers(), key = Numbers(), value = Numbers(), expected = new Half[batch * sequence], actual = new Half[batch * sequence];
        for (int b = 0; b < batch; b++) value[((b + 1) * sequence) - row + Column] = Half.PositiveInfinity;
        using CudaTensor<Half> q = device.Allocate<Half>(batch, Tokens, 1, Dim), k = device.Allocate<Half>(batch, Tokens, 1, Dim), v = device.Allocate<Half>(batch, Tokens, 1, Dim);
        using CudaTensor<Half> output = device.Allocate<Half>(batch, Tokens, 1, Dim);
        q.CopyFrom(query);
        k.CopyFrom(key);
        Attend(value, actual);
        for (int b = 0; b < batch; b++) value[((b + 1) * sequence) - row + Column] = (Half)0;
        Attend(value, expected);
        for (int b = 0; b < batch; b++)
        {
            int last = ((b + 1) * sequence) - row;
            if (!expected.AsSpan(b * sequence, sequence - row).SequenceEqual(actual.AsSpan(b * sequence, sequence - row))) Assert.Fail($"Rows of sequence {b} of {batch} that do not see the infinity have other bits with it.");
            Assert.Equal(Half.PositiveInfinity, actual[last + Column]);
            expected[last + Column] = Half.PositiveInfinity;
            Assert.True(expected.AsSpan(last, row).SequenceEqual(actual.AsSpan(last, row)), $"Other columns of the last row of sequence {b} of {batch} have other bits.");
        }

        Half[] Numbers() => [.. Enumerable.Range(0, batch * sequence).Select(_ => (Half)((random.NextSingle() * 2) - 1))];

        void Attend(Half[] values, Half[] results)
        {
            v.CopyFrom(values);
            CudaAttention.Forward(q, k, v, output, new AttentionOptions { Mask = AttentionMask.Causal });
            output.CopyTo(results);
        }
    }

    /// <summary>Single elements of values, at keys that some rows see and some do not, in several tiles and splits: each row has exactly what it sees, and the bits of zeros elsewhere.</summary>
    [Theory]
    [MemberData(nameof(Arrangements))]
    public void Special_values_show_where_they_are_seen(string kernel, string type, string hiding)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        Problems.Open(family);

        // Several tiles of rows and keys; and decoded in several splits, of 512 keys at least.
        int many = Problems.Target.Tokens(2300);
        foreach ((int queries, int keys) in ((int, int)[])[(family == AttentionKernel.Decode ? 4 : Problems.Target.Tokens(150), 300), (5, family == AttentionKernel.Decode ? Math.Max(many, 1100) : many)])
        {
            Problem problem = HiddenKeyProblems.Of(queries, keys, Enum.Parse<AttentionElementType>(type), hiding);
            (int Key, int Column, float Value)[] specials =
            [
                (3, 0, float.PositiveInfinity), (3, 7, float.NaN), (keys / 3, 0, float.NegativeInfinity), (keys / 2, 33, float.NegativeInfinity), (keys / 2, 63, float.PositiveInfinity),
                ((keys / 2) + 1, 63, float.PositiveInfinity), (keys - 2, 20, float.NegativeInfinity), (keys - 2, 7, float.PositiveInfinity), (keys - 1, 40, float.NaN), (keys - 1, 41, float.PositiveInfinity),
            ];
            CallResult expected = Problems.Run(HiddenKeyProblems.WithValues(problem, specials, isZero: true), null, family);
            CallResult actual = Problems.Run(HiddenKeyProblems.WithValues(problem, specials, isZero: false), null, family);
            int seen = 0, hidden = 0;
            for (int i = 0; i < queries; i++)
            {
                for (int h = 0; h < problem.Heads; h++)
                {
                    int row = ((i * problem.Heads) + h) * problem.ValueDim;
                    float[] sums = expected.Output[0].AsSpan(row, problem.ValueDim).ToArray();
                    foreach ((int key, int column, float value) in specials)
                    {
                        bool sees = new Victim(0, 0, key).IsSeenBy(problem, 0, i, h);
                        (seen, hidden) = sees ? (seen + 1, hidden) : (seen, hidden + 1);
                        if (sees) sums[column] += value;
                    }

                    for (int d = 0; d < problem.ValueDim; d++)
                    {
                        float x = actual.Output[0][row + d];
                        Assert.True(x.Equals(sums[d]), $"{family}: query {i}, head {h}, dim {d} is {x:R}, not {sums[d]:R}; {problem}");
                    }
                }
            }

            Assert.True(seen > 0 && hidden > 0, $"{seen} seen, {hidden} hidden");
            CallResult.AssertSameBits(expected.LogSumExp![0], actual.LogSumExp![0], $"{family}: log-sum-exp, {problem}");
        }
    }

    /// <summary>Keys behind a mask hold NaN, the usual way in which it happens.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5, 300)]
    [InlineData(nameof(AttentionKernel.Prefill), 170, 460)]
    [InlineData(nameof(AttentionKernel.Decode), 1, 2700)]
    public void Padding_behind_a_mask_may_hold_anything(string kernel, int queries, int keys)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        Problems.Open(family);
        bool[] mask = new bool[keys];
        for (int j = 0; j < keys; j++) mask[j] = j >= 3 && j < keys - 130 && j % 17 != 5;
        Problem problem = HiddenKeyProblems.Of(queries, keys, AttentionElementType.Float16, "nothing") with { Mask = new(mask, 1, 1, 1, keys) { Rank = 1 } };
        Victim[] victims = [.. Enumerable.Range(0, keys).Where(j => !mask[j]).Select(j => new Victim(0, 0, j))];
        CallResult expected = Problems.Run(HiddenKeys.With(problem, victims, _ => 0, _ => 0), null, family);
        Problems.Run(HiddenKeys.With(problem, victims, _ => float.NaN, n => n % 2 == 0 ? float.NaN : float.NegativeInfinity), null, family).AssertSameBits(expected, $"{family}: {problem}");
    }

    /// <summary>NaN and +inf in a bias come out as IEEE arithmetic has it, in the rows that have them and in no other.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5)]
    [InlineData(nameof(AttentionKernel.Prefill), 140)]
    [InlineData(nameof(AttentionKernel.Decode), 5)]
    public void Not_a_number_in_a_bias_stays_in_its_row(string kernel, int queries)
    {
        const int Keys = 140;
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        Problems.Open(family);
        Problem problem = HiddenKeyProblems.Of(queries, Keys, AttentionElementType.BFloat16, "nothing");
        CallResult plain = Problems.Run(problem with { Bias = new Broadcast<float>(new float[queries * Keys], 1, 1, queries, Keys) }, null, family);
        float[] bias = new float[queries * Keys];
        bias[(1 * Keys) + 7] = float.NaN;
        bias[(2 * Keys) + Keys - 1] = float.PositiveInfinity;
        Array.Fill(bias, float.NaN, 3 * Keys, Keys);
        CallResult result = Problems.Run(problem with { Bias = new Broadcast<float>(bias, 1, 1, queries, Keys) }, null, family);
        int row = problem.Heads * problem.ValueDim;
        for (int i = 0; i < queries; i++)
        {
            ReadOnlySpan<float> rows = result.Output[0].AsSpan(i * row, row);
            if (i is 1 or 2 or 3) Assert.All(rows.ToArray(), x => Assert.True(float.IsNaN(x), $"{family}: query {i} has {x}; {problem}"));
            else CallResult.AssertSameBits(plain.Output[0].AsSpan(i * row, row), rows, $"{family}: query {i}, {problem}");
        }
    }

    private static void Said(string what, Action check)
    {
        try
        {
            check();
        }
        catch (Xunit.Sdk.XunitException failure)
        {
            throw new Xunit.Sdk.XunitException($"{what}: {failure.Message}", failure);
        }
    }
}
