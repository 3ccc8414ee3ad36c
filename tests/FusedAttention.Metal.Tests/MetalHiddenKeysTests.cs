using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>
/// What a row may not see, by position, window, mask, bias or length, cannot change a bit of it, whatever lies there; infinities and NaN in values that it does see show in their columns and in no others.
/// </summary>
public sealed class MetalHiddenKeysTests
{
    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, 40)];

    public static TheoryData<string, string, string> Arrangements()
    {
        var cases = new TheoryData<string, string, string>();
        foreach (AttentionKernel kernel in Enum.GetValues<AttentionKernel>())
        {
            foreach (string type in (string[])["Float32", "Float16", "BFloat16", "FastMath"])
            {
                foreach (string hiding in (string[])["causal", "window", "mask", "bias", "bias of 16 bits", "paged", "packed"])
                {
                    if (type is not "FastMath" || hiding is "causal" or "mask" or "bias") cases.Add(kernel.ToString(), type, hiding);
                }
            }
        }

        return cases;
    }

    /// <summary>Random problems, whose keys and values are special as a whole here and there.</summary>
    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give(int seed)
    {
        ProblemGenerator generator = MetalProblems.Generator(230_000 + seed);
        Problem problem = generator.NextProblem();
        while (!HiddenKeys.MayHide(problem)) problem = generator.NextProblem();
        Arrangement arrangement = generator.NextArrangement();
        Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
        foreach (AttentionKernel kernel in Enum.GetValues<AttentionKernel>())
        {
            if (MetalReferenceTests.Takes(kernel, problem.KeyDim, problem.ValueDim, problem.KeyValueType)) HiddenKeys.AssertHidden(problem, victims, special => MetalProblems.Run(special, arrangement, kernel));
        }
    }

    /// <summary>
    /// Single elements of values, at keys that some rows see and some do not, in several tiles, slices and splits: each row has exactly what it sees, and the bits of zeros elsewhere. Threads in all orders.
    /// </summary>
    [Slow]
    [Theory]
    [MemberData(nameof(Arrangements))]
    public void Special_values_show_where_they_are_seen(string kernel, string type, string hiding)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        bool isFast = type is "FastMath";
        AttentionElementType elements = isFast ? AttentionElementType.Float16 : Enum.Parse<AttentionElementType>(type);
        Problem problem = HiddenKeyProblems.Of(family == AttentionKernel.Prefill ? 37 : 4, family == AttentionKernel.Prefill ? 90 : 600, elements, hiding);
        int keys = problem.KeyLengths[0];
        (int Key, int Column, float Value)[] specials =
        [
            (3, 0, float.PositiveInfinity), (3, 7, float.NaN), (keys / 3, 0, float.NegativeInfinity), (keys / 2, 33, float.NegativeInfinity), (keys / 2, 63, float.PositiveInfinity),
            ((keys / 2) + 1, 63, float.PositiveInfinity), (keys - 2, 20, float.NegativeInfinity), (keys - 2, 7, float.PositiveInfinity), (keys - 1, 40, float.NaN), (keys - 1, 41, float.PositiveInfinity),
        ];
        EmulatorFlavour flavour = isFast ? EmulatorFlavour.FastMath : EmulatorFlavour.Plain;
        CallResult expected = Run(HiddenKeyProblems.WithValues(problem, specials, isZero: true), family, flavour);
        CallResult actual = Run(HiddenKeyProblems.WithValues(problem, specials, isZero: false), family, flavour);
        int seen = 0, hidden = 0;
        for (int i = 0; i < problem.QueryLengths[0]; i++)
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
                    Assert.True(x.Equals(sums[d]), $"query {i}, head {h}, dim {d} is {x:R}, not {sums[d]:R}");
                }
            }
        }

        Assert.True(seen > 0 && hidden > 0, $"{seen} seen, {hidden} hidden");
        CallResult.AssertSameBits(expected.LogSumExp![0], actual.LogSumExp![0], "log-sum-exp");
    }

    /// <summary>Keys behind a mask hold NaN, the usual way in which it happens.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5, 300)]
    [InlineData(nameof(AttentionKernel.Prefill), 70, 160)]
    [InlineData(nameof(AttentionKernel.Decode), 1, 700)]
    public void Padding_behind_a_mask_may_hold_anything(string kernel, int queries, int keys)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        bool[] mask = new bool[keys];
        for (int j = 0; j < keys; j++) mask[j] = j >= 3 && j < keys - 130 && j % 17 != 5;
        Problem problem = HiddenKeyProblems.Of(queries, keys, AttentionElementType.Float16, "nothing") with { Mask = new(mask, 1, 1, 1, keys) { Rank = 1 } };
        Victim[] victims = [.. Enumerable.Range(0, keys).Where(j => !mask[j]).Select(j => new Victim(0, 0, j))];
        CallResult expected = MetalProblems.Run(HiddenKeys.With(problem, victims, _ => 0, _ => 0), null, family);
        MetalProblems.Run(HiddenKeys.With(problem, victims, _ => float.NaN, n => n % 2 == 0 ? float.NaN : float.NegativeInfinity), null, family).AssertSameBits(expected, problem.ToString());
    }

    private static CallResult Run(Problem problem, AttentionKernel family, EmulatorFlavour flavour)
    {
        using EmulatedRuntime runtime = MetalProblems.Start(flavour, MetalProblems.AllOrders);
        return Caller.Run(problem, arrangement: null, new MetalCaller(runtime, family));
    }
}
