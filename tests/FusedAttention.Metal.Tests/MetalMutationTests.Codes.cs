using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <content>Keys and values of 8 bits.</content>
public sealed partial class MetalMutationTests
{
    /// <summary>The same in what keys and values of 8 bits add to the text. Each is a library to compile, so a run in CI takes every ninth.</summary>
    public static TheoryData<string, string, string> MistakesOfCodes
    {
        get
        {
            var mistakes = new TheoryData<string, string, string>();
            for (int i = 0; i < AroundCodes.Length; i += MetalProblems.IsWhole ? 1 : 9) mistakes.Add(AroundCodes[i].Kernel, AroundCodes[i].Correct, AroundCodes[i].Wrong);
            return mistakes;
        }
    }

    private static (string Kernel, string Correct, string Wrong)[] AroundCodes { get; } =
    [
        // Scales: whose, where they begin, and to what they go.
        ("Plain", "if (has_key_scale && has_key) score *= *scale_at(keys.scales, tile + lane);", ""),
        ("Plain", "scaled_weight(weight, *scale_at(values.scales, tile + lane))", "scaled_weight(weight, *scale_at(keys.scales, tile + lane))"),
        ("Plain", "(ulong(start) >> places.start_shift) * places.start_factor", "ulong(start) * places.start_factor"),
        ("Plain", " + number * places.sequence_stride", ""),
        ("Plain", "(first + head * places.head_stride)", "first"),
        ("Plain", "rows.blocks[block] * rows.block_stride + (key - block * rows.block_size) * rows.token_stride", "block * rows.block_stride + (key - block * rows.block_size) * rows.token_stride"),
        ("Plain", "as_type<uint>(weight) == 0u ? 0.0f : weight * scale", "weight * scale"),
        ("Decode", "if (has_key_scale) score *= key_scale;", ""),
        ("Decode", "if (has_value_scale) weight = scaled_weight(weight, value_scale);", ""),
        ("Decode", "tile + lane_of_key % STEPS * SIDE_BY_SIDE + side, first_key, end_key);\n    float key_scale", "tile + side, first_key, end_key);\n    float key_scale"),
        ("Decode", "(key - tile) * int(rows.token_stride)", "(key - tile)"),
        ("Decode", "state.sum = fma(state.sum, rescale, weight);", "weight = has_value_scale ? scaled_weight(weight, value_scale) : weight;\n    state.sum = fma(state.sum, rescale, weight);"),
        ("Prefill", "if (has_key_scale) scale_scores(scores[b].fragments, scales, lane_column);", ""),
        ("Prefill", "if (has_value_scale) scale_weights(scores[b].fragments, scales, lane_column);", ""),
        ("Prefill", "scales[f * 8 + lane_column + 1].y", "scales[f * 8 + lane_column].y"),
        ("Prefill", "pair.x = scale_in_tile(keys.scales", "pair.x = scale_in_tile(values.scales"),
        ("Prefill", "+ EXCHANGE_BYTES + SCALE_BYTES)", "+ EXCHANGE_BYTES)"),

        // Codes.
        ("Plain", "& 0x40004000u) >> 1;", "& 0x40004000u);"),
        ("Decode", "half2 doubled = raised + raised - half(0.015625f);", "half2 doubled = raised;"),
        ("Decode", "half2 first = finite_halves_of_e4m3(word << 8);", "half2 first = finite_halves_of_e4m3(word);"),
        ("Decode", "note_key(specials, key, has_special(carries));", ""),
        ("Prefill", "note_key(specials, key, true);", ""),
        ("Prefill", "| (codes & 0x80008000u)", ""),
        ("Prefill", "return nans | (nans << 8);", "return nans;"),
        ("Prefill", "IS_VALUE ? finite_halves_of(elements[turn]) : halves_of(elements[turn])", "halves_of(elements[turn])"),
    ];

    [Theory]
    [MemberData(nameof(MistakesOfCodes))]
    public void A_mistake_around_codes_is_noticed(string kernel, string correct, string wrong)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        AssertNoticed(family, ProblemsOfCodes(family), correct, wrong, occurrence: 0);
    }

    [Theory]
    [InlineData(nameof(AttentionKernel.Plain))]
    [InlineData(nameof(AttentionKernel.Prefill))]
    [InlineData(nameof(AttentionKernel.Decode))]
    public void Without_a_mistake_those_of_codes_pass(string kernel)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        foreach (Problem problem in ProblemsOfCodes(family)) MetalProblems.Run(problem, null, family).AssertClose(problem, RowByRow.Solve(problem));
    }

    /// <summary>Some of those of all kernels over E4M3, in the library of <see cref="MetalEightBitTests"/>: scales of every token and head in each form of a call, small numbers, NaN in values, and NaN in scales behind a mask.</summary>
    private static IEnumerable<Problem> ProblemsOfCodes(AttentionKernel family)
    {
        var generator = new ProblemGenerator(7);
        Dictionary<string, Problem> problems = Problems(family).ToDictionary(static problem => problem.Name, StringComparer.Ordinal);
        foreach ((string name, CallForm form) in ((string, CallForm)[])[("causal", CallForm.Dense), ("causal", CallForm.Packed), ("causal", CallForm.Paged), ("mask", CallForm.Dense), ("special values", CallForm.Dense)])
        {
            Problem wide = problems[name];
            Problem problem = HiddenScales.OfTokens(generator, generator.WithEightBits(wide with { QueryType = AttentionElementType.BFloat16, Form = form, BlockSize = 24 }, AttentionElementType.Float8E4M3)) with { Name = $"{name}, {form}" };
            for (int s = 0; s < problem.Sequences; s++)
            {
                // Subnormal codes: in a column of each kind, so that something comes of them alone.
                for (int n = 0; n < problem.Value[s].Length; n++)
                {
                    if (n % 64 < 4) problem.Value[s][n] = (n % 7) / 512f;
                    if (name is "special values" && float.IsNaN(wide.Value[s][n])) problem.Value[s][n] = float.NaN;
                }
            }

            if (name is "mask")
            {
                // One key in six is nobody's to see.
                int capacity = problem.KeyCapacity;
                problem = problem with { Mask = new Broadcast<bool>([.. Enumerable.Range(0, capacity).Select(static key => key % 6 != 5)], 1, 1, 1, capacity) };
                foreach (float[] scales in (float[][])[.. problem.KeyScales!, .. problem.ValueScales!])
                    for (int n = 0; n < scales.Length; n++) scales[n] = n / problem.KeyValueHeads % 6 == 5 ? float.NaN : scales[n];
            }

            yield return problem;
        }
    }
}
