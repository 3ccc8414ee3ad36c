using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>
/// Tests of the tests: kernels with a seeded mistake each. A few small problems, of the kind that the sweeps draw at random, must notice every one of them: by a wrong
/// number, by bits that depend on the order of lanes, or by the emulator's own checks.
/// </summary>
[Slow]
public sealed partial class MetalMutationTests(ITestOutputHelper output)
{
    /// <summary>The kernel that runs, what stands in its text, what takes its place (empty: nothing), and which of several places is meant, from 0.</summary>
    public static TheoryData<string, string, string, int> Mistakes => new()
    {
        // Barriers: before the tiles, around K, around V.
        { "Prefill", "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 0 },
        { "Prefill", "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 1 },
        { "Prefill", "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 2 },
        { "Prefill", "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 3 },
        { "Prefill", "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 4 },
        { "Decode", "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 0 },
        { "Decode", "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 1 },
        { "Decode", "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 2 },

        // The running maximum.
        { "Prefill", "fma(outputs[b].fragments[d], float2(rescale[b]), sums[b])", "outputs[b].fragments[d] + sums[b]", 0 },
        { "Prefill", "sum *= rescale;", "", 0 },
        { "Prefill", "x = max(x, simd_shuffle_xor(x, ushort(1)));", "", 0 },
        { "Decode", "if (simd_any(rescale != 1.0f)) rescale_outputs(state, rescale);", "", 0 },
        { "Decode", "state.sum = fma(state.sum, rescale, weight);", "state.sum += weight;", 0 },
        { "Decode", "float other_rescale = weight_of(other.x, base, factor);", "float other_rescale = 1.0f;", 0 },
        { "Plain", "outputs[i] = fma(outputs[i], rescale, sums[i]);", "outputs[i] += sums[i];", 0 },
        { "Plain", "return maximum == NEVER_SEEN ? 0.0f : maximum;", "return maximum;", 0 },
        { "Decode", "return maximum == NEVER_SEEN ? 0.0f : maximum;", "return maximum;", 0 },
        { "Prefill", "return maximum == NEVER_SEEN ? 0.0f : maximum;", "return maximum;", 0 },

        // Which keys. Reading those that nobody sees changes no number: KernelMistakeTests have that.
        { "Prefill", "tile >= start_of_all && tile + TILE_KEYS <= end_of_all", "tile >= start_of_all && tile <= end_of_all", 0 },
        { "Prefill", "tile >= start_of_all && tile + TILE_KEYS <= end_of_all", "tile + TILE_KEYS >= start_of_all && tile + TILE_KEYS <= end_of_all", 0 },
        { "Prefill", "tile < end_of_any && tile + TILE_KEYS > start_of_any", "tile + 8 < end_of_any && tile + TILE_KEYS > start_of_any", 0 },
        { "Prefill", "int last = min(first + ROW_BLOCKS * 8, item.end_row) - 1;", "int last = min(first + ROW_BLOCKS * 4, item.end_row) - 1;", 0 },
        { "Decode", "tile += slices * TILE_KEYS", "tile += TILE_KEYS", 0 },
        { "Plain", "key < row.start || key >= row.end", "key < row.start || key > row.end", 0 },
        { "Plain", "position + parameters.right_reach + 1", "position + parameters.right_reach", 0 },
        { "Prefill", "base + j * int(rows.token_stride)", "base + j * 64", 0 },
        { "Decode", "base + j * int(rows.token_stride)", "base + j * 64", 0 },
        { "Prefill", "block_size % tile_keys == 0", "true", 0 },
        { "Decode", "block_size % tile_keys == 0", "true", 0 },
        { "Decode", "ushort(step_key + side)", "ushort(step_key)", 0 },
        { "Prefill", "(key - block * rows.block_size) * rows.token_stride", "key * rows.token_stride", 0 },

        // The score.
        { "Plain", "if (is_negative_infinity(bias)) score.is_seen = false;", "", 0 },
        { "Plain", "if (has_bias && score.value < LOWEST_SCORE) return LOWEST_SCORE;", "", 0 },
        { "Plain", "fabs(float(row.position - tile) - float(j))", "(float(row.position - tile) - float(j))", 0 },
        { "Plain", "if (row.mask[key] == 0) score.is_seen = false;", "", 0 },
        { "Prefill", "return fast::exp2(difference * factor);", "return fast::exp2(score * factor - base * factor);", 0 },

        // Infinities and NaN.
        { "Prefill", "*chunk = without_specials(*chunk, key, specials);", "", 0 },
        { "Prefill", "0x7F800000u) + 0x00800000u", "0x7F800000u) + 0x00400000u", 0 },
        { "Prefill", "note_key(specials, key, x || y || z || w);", "", 0 },
        { "Plain", "span.first = found ? min(span.first, key) : span.first;", "span.first = found ? key : span.first;", 0 },
        { "Decode", "if (w) elements.w = 0;", "", 0 },
        { "Decode", "special |= of_split;", "", 0 },
        { "Plain", "if (of_key != 0u && sees_key(row, key, parameters))", "if (of_key != 0u)", 0 },
        { "Plain", "uint all = special | special_of(x);", "uint all = special_of(x);", 0 },

        { "Prefill", "atomic_fetch_min_explicit(&notes->first_special, specials.first, memory_order_relaxed);", "", 0 },
        { "Prefill", "atomic_fetch_max_explicit(&notes->end_special, specials.end, memory_order_relaxed);", "", 0 },

        // Rows, lanes and splits.
        { "Prefill", "factors(q.x, q.z), factors(k0.x, k1.x)", "factors(q.x, q.y), factors(k0.x, k1.x)", 0 },
        { "Prefill", "memory_order_relaxed) + row_simdgroup * (ROW_BLOCKS * 8);", "memory_order_relaxed);", 0 },
        { "Prefill", "atomic_store_explicit(&notes->first_row, item.first_row, memory_order_relaxed);", "", 0 },
        { "Decode", "ushort(side * LANES + r * STEPS + step)", "ushort(r * STEPS + step)", 0 },
        { "Decode", "shared_outputs[(slot + r) * (VALUE_DIM / 4) + c * LANES + lane_of_key] = ", "shared_outputs[r * (VALUE_DIM / 4) + c * LANES + lane_of_key] = ", 0 },
        { "Decode", "weight_of(partial_statistics[at * 2], base, factor), o)", "1.0f, o)", 0 },
        { "Decode", "long stride = long(parameters.key_value_heads) *", "long stride =", 0 },
        { "Plain", "end.log_sum_exp = top + precise::log(total);", "end.log_sum_exp = top;", 0 },
        { "Plain", "float total = sum * weight + precise::exp(sink - top);", "float total = sum * weight;", 0 },
    };

    /// <summary>The same in what two simdgroups that share the dimensions of their rows tell each other.</summary>
    public static TheoryData<string, string, int> MistakesOfParts => new()
    {
        { "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 3 },
        { "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 4 },
        { "threadgroup_barrier(mem_flags::mem_threadgroup);", "", 5 },
        { "if (part > 0) put_scores(exchange, scores);", "", 0 },
        { "scores[b].fragments[f] += others[b].fragments[f];", "", 0 },
        { "if (DIM_PARTS > 1) put_scores(exchange, scores);", "", 0 },
        { "if (DIM_PARTS > 1) factors_of_exchange(exchange, b).x = rescale[b];", "", 0 },
        { "if (part == 0) factors_of_exchange(exchange, b).y = end_factor;", "", 0 },
        { "factors_of_exchange(exchange, b).y = end_factor", "factors_of_exchange(exchange, b).x = end_factor", 0 },
        { "row_simdgroup * (EXCHANGE_FRAGMENTS * 32) + int(lane)", "int(lane)", 0 },
        { "(part * KEY_STEPS + step) * 16 + lane_column * 2", "step * 16 + lane_column * 2", 0 },
        { "part * (KEY_STEPS * 16)", "0", 0 },
        { "part * (VALUE_FRAGMENTS * 8) + lane_column", "lane_column", 0 },
        { "int first_column = part * (VALUE_FRAGMENTS * 8);", "int first_column = 0;", 0 },
        { "min(first_column + VALUE_FRAGMENTS * 8, values.columns)", "min(first_column, values.columns)", 0 },
    };

    /// <summary>The same in what a call's functions add to the text, with the one of <see cref="ProblemsOfFunctions"/> that notices it: the others' functions are libraries of their own.</summary>
    public static TheoryData<string, string, string, string> MistakesOfFunctions => new()
    {
        { "Plain", "apply_function(score, row, tile, j, parameters);", "", "slopes, a few keys" },
        { "Decode", "if (!score.is_seen) score.value = negative_infinity();", "", "NaN behind a bias, capped" },
        { "Prefill", "score.is_seen = !is_negative_infinity(score.value);", "", "bias, capped" },
        { "Plain", "score.is_seen = !is_negative_infinity(score.value);", "if (is_negative_infinity(score.value)) score.is_seen = false;", "bias, capped" },
        { "Decode", "    if (score.value < LOWEST_SCORE) return LOWEST_SCORE;", "", "bias, and slopes" },
        { "Plain", "INLINE bool has_natural_scores() { return true; }", "INLINE bool has_natural_scores() { return has_soft_cap || has_bias || has_alibi; }", "slopes, a few keys" },
        { "Prefill", "INLINE bool modifies_scores() { return true; }", "INLINE bool modifies_scores() { return has_mask; }", "slopes, a few keys" },
        { "Plain", ", tile, j, parameters)) score.is_seen = false;", ", tile, j, parameters)) score.is_seen = score.is_seen;", "slopes, a few keys" },

        // What functions are told.
        { "Prefill", "{item.sequence, ", "{0, ", "tokens, remainders" },
        { "Decode", "operands.score_table0[head]", "operands.score_table0[0]", "slopes, a few keys" },
        { "Plain", "float(position - tile) - float(j)", "float(position - tile)", "slopes, a few keys" },
        { "Decode", "float(tile) + float(j)", "float(tile)", "slopes, a few keys" },
        { "Prefill", "parameters.score_number0", "parameters.score_number1", "relative, capped" },
        { "Plain", "parameters.score_table0_columns + ", "parameters.score_table0_rows + ", "tokens, remainders" },
        { "Plain", "bounded < float(count) ? int(bounded) : count - 1", "int(bounded)", "relative, capped" },
        { "Decode", "index > 0.0f ? index : 0.0f", "index", "relative, capped" },
        { "Prefill", "fma(-trunc(precise::divide(a, b)), b, a)", "fma(-floor(precise::divide(a, b)), b, a)", "tokens, remainders" },

        // Tiles that are left out.
        { "Plain", "if (!simd_any(keeps_key(row, tile, lane, parameters))) continue;", "if (!keeps_key(row, tile, 0, parameters)) continue;", "slopes, a few keys" },
        { "Decode", "lane_of_key % STEPS * SIDE_BY_SIDE + side, parameters))) continue;", "side, parameters))) continue;", "slopes, a few keys" },
        { "Prefill", "f * 8 + 1, parameters) || keeps;", "f * 8, parameters) || keeps;", "slopes, a few keys" },
        { "Prefill", "if (sees_tile && lane == 0) atomic_store_explicit(&notes->kept_tile, tile + 1, memory_order_relaxed);\n        threadgroup_barrier(mem_flags::mem_threadgroup);", "if (sees_tile && lane == 0) atomic_store_explicit(&notes->kept_tile, tile + 1, memory_order_relaxed);", "slopes, a few keys" },
        { "Prefill", "if (sees_tile) sees_tile = simd_any(", "if (sees_tile) sees_tile = !simd_any(", "slopes, a few keys" },

        // Functions that are asked again.
        { "Plain", "score_of(product_of_key(row, key, parameters), ", "score_of(0.0f, ", "excluded by scores, Dense" },
        { "Prefill", "row.functions.query += sequence.query_start + ", "row.functions.query += ", "excluded by scores, Dense" },
        { "Decode", "row.functions.key += sequence.key_start + key_value_head * parameters.key_head_stride;", "row.functions.key += sequence.key_start;", "excluded by scores, Dense" },
        { "Plain", "row.functions.blocks += sequence.block_table_start;", "", "excluded by scores, Paged" },
    };

    [Theory]
    [MemberData(nameof(MistakesOfFunctions))]
    public void A_mistake_around_functions_is_noticed(string kernel, string correct, string wrong, string by)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        AssertNoticed(family, [ProblemsOfFunctions(family).Single(problem => string.Equals(problem.Name, by, StringComparison.Ordinal))], correct, wrong, occurrence: 0, isEverywhere: false);
    }

    [Theory]
    [InlineData(nameof(AttentionKernel.Plain))]
    [InlineData(nameof(AttentionKernel.Prefill))]
    [InlineData(nameof(AttentionKernel.Decode))]
    public void Without_a_mistake_those_of_functions_pass(string kernel)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        foreach (Problem problem in ProblemsOfFunctions(family)) MetalProblems.Run(problem, null, family).AssertClose(problem, RowByRow.Solve(problem));
    }

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void A_mistake_is_noticed(string kernel, string correct, string wrong, int occurrence)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        AssertNoticed(family, Problems(family), correct, wrong, occurrence);
    }

    [Theory]
    [MemberData(nameof(MistakesOfParts))]
    public void A_mistake_between_parts_of_the_dimensions_is_noticed(string correct, string wrong, int occurrence) =>
        AssertNoticed(AttentionKernel.Prefill, ProblemsOfParts(), correct, wrong, occurrence);

    [Fact]
    public void Without_a_mistake_those_of_parts_pass()
    {
        foreach (Problem problem in ProblemsOfParts()) MetalProblems.Run(problem, null, AttentionKernel.Prefill).AssertClose(problem, RowByRow.Solve(problem));
    }

    [Theory]
    [InlineData(nameof(AttentionKernel.Plain))]
    [InlineData(nameof(AttentionKernel.Prefill))]
    [InlineData(nameof(AttentionKernel.Decode))]
    public void Without_a_mistake_all_of_them_pass(string kernel)
    {
        foreach (Problem problem in Problems(Enum.Parse<AttentionKernel>(kernel)))
        {
            MetalProblems.Run(problem, null, Enum.Parse<AttentionKernel>(kernel)).AssertClose(problem, RowByRow.Solve(problem));
        }
    }

    private void AssertNoticed(AttentionKernel family, IEnumerable<Problem> problems, string correct, string wrong, int occurrence, bool isEverywhere = true)
    {
        using EmulatedRuntime runtime = MetalProblems.Start();
        using var mistaken = new EmulatedRuntime
        {
            Orders = [.. MetalProblems.AllOrders],
            Source = function =>
            {
                string text = KernelSource.Compose(function);
                return isEverywhere || text.Contains(correct, StringComparison.Ordinal) ? Mutate(text, correct, wrong, occurrence) : text;
            },
        };
        foreach (Problem problem in problems)
        {
            try
            {
                Caller.Run(problem, null, new MetalCaller(mistaken, family)).AssertClose(problem, RowByRow.Solve(problem));
            }
            catch (Exception e) when (e is MetalEmulationException or Xunit.Sdk.XunitException)
            {
                output.WriteLine($"{problem.Name}: {e.Message.Split('\n')[0]}");
                return;
            }
        }

        Assert.Fail("Nothing noticed it.");
    }

    private static string Mutate(string text, string correct, string wrong, int occurrence)
    {
        int at = -1;
        for (int i = 0; i <= occurrence; i++)
        {
            // Not an assertion: that would count as the mistake's being noticed.
            at = text.IndexOf(correct, at + 1, StringComparison.Ordinal);
            if (at < 0) throw new InvalidOperationException($"The text has no \"{correct}\" number {i}.");
        }

        return text[..at] + wrong + text[(at + correct.Length)..];
    }

    /// <summary>In floats, with 11 steps of 16 dimensions for Q K^T and 19 fragments of 8 for P V: neither is even.</summary>
    private static IEnumerable<Problem> ProblemsOfParts() => Problems(AttentionKernel.Prefill, keyDim: 168, valueDim: 152);

    /// <summary>Those of all kernels with functions among them, so that each line of the functions' text counts somewhere.</summary>
    private static IEnumerable<Problem> ProblemsOfFunctions(AttentionKernel family)
    {
        var generator = new ProblemGenerator(6);
        Dictionary<string, Problem> problems = Problems(family).ToDictionary(static problem => problem.Name, StringComparer.Ordinal);
        Problem causal = problems["causal"], bias = problems["bias"], special = problems["special values"];
        (int queries, int keys, int sequences) = (causal.QueryLengths.Max(), causal.KeyLengths.Max(), causal.Sequences);
        ScoreTable Numbers(int count) => new(generator.Numbers(sequences * count, 1, AttentionElementType.Float32), sequences, count);
        var slopes = new LinearBias(new ScoreTable([0.1f, 0.2f, 0.3f, 0.1f, 0.4f, 0.5f]));
        yield return With(causal, "slopes, a few keys", ScoreFunction.Of(slopes), MaskFunction.Of(new EveryNth(16, 3)));
        yield return With(causal, "tokens, remainders", ScoreFunction.Of(new TokenProduct(Numbers(queries), Numbers(keys))), MaskFunction.Of(new BehindBy(3, 1)));
        yield return With(causal with { Options = causal.Options with { Mask = AttentionMask.Full } }, "relative, capped", ScoreFunction.Of(new T5RelativeBias(generator.Numbers(16 * 6, 1, AttentionElementType.Float32), 6, true, 20).Then(new TanhCap(3))), null);
        yield return With(bias, "bias, and slopes", ScoreFunction.Of(slopes), null);
        yield return With(bias, "bias, capped", ScoreFunction.Of(new TanhCap(2)), null);

        // NaN in keys that a bias excludes, and a cap that makes a number of it.
        Problem poisoned = generator.Fill(bias with { Name = "NaN behind a bias, capped" });
        float[] hidden = new float[queries * (keys + 3)];
        for (int i = 0; i < queries; i++) hidden[(i * (keys + 3)) + 5] = float.NegativeInfinity;
        Array.Fill(poisoned.Key[0], float.NaN, 5 * 2 * poisoned.KeyDim, 2 * poisoned.KeyDim);
        yield return With(poisoned with { Bias = new Broadcast<float>(hidden, 1, 1, queries, keys + 3) }, poisoned.Name, ScoreFunction.Of(new TanhCap(2)), null);

        // Scores that are sixteenths, excluded between two of them, over values that are infinite here and there.
        foreach (Problem exact in (Problem[])[special with { Mask = null }, special with { Mask = null, Form = CallForm.Paged, BlockSize = 24 }])
        {
            float[] Integers(float[] numbers) => [.. numbers.Select(static x => MathF.Round(x * 2))];
            yield return With(
                exact with { Query = [.. exact.Query.Select(Integers)], Key = [.. exact.Key.Select(Integers)] }, $"excluded by scores, {exact.Form}", ScoreFunction.Of(new OnlyAbove(1 / 32f)), null,
                scale: 1 / 16f);
        }

        static Problem With(Problem problem, string name, ScoreFunction score, MaskFunction? mask, float? scale = null) =>
            problem with { Name = name, Options = problem.Options with { ScoreFunction = score, MaskFunction = mask, Scale = scale } };
    }

    private static IEnumerable<Problem> Problems(AttentionKernel family, int keyDim = 64, int valueDim = 64)
    {
        bool isFew = family == AttentionKernel.Decode;
        int queries = isFew ? 3 : 37;
        int keys = isFew ? 330 : 71;
        Problem one = new()
        {
            Name = "causal",
            Form = CallForm.Dense,
            Heads = 6,
            KeyValueHeads = 2,
            KeyDim = keyDim,
            ValueDim = valueDim,
            QueryLengths = [queries, queries],
            KeyLengths = [keys, 45],
            KeyCapacity = keys + 3,
            PassesKeyLengths = true,
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions { Mask = AttentionMask.Causal, RowInvariant = family == AttentionKernel.Prefill },
        };
        var generator = new ProblemGenerator(5);
        yield return generator.Fill(one);
        if (isFew) yield return generator.Fill(one with { QueryLengths = [1, 1] }) with { Name = "one query" };
        yield return generator.Fill(one) with
        {
            Name = "window, rows without keys",
            Options = one.Options with { Mask = AttentionMask.Window(9, 4), Alignment = AttentionAlignment.TopLeft, QueryOffset = 40, SinkLogits = [0, 1, 2, 3, 4, float.NegativeInfinity] },
        };
        yield return generator.Fill(one with { KeyLengths = [0, 45], Options = one.Options with { Mask = AttentionMask.Full } }) with { Name = "no keys" };
        yield return generator.Fill(one with { Form = CallForm.Paged, BlockSize = 22, Options = one.Options with { AlibiSlopes = AlibiSlopes.ForHeads(6), SoftCap = 5 } }) with { Name = "paged, ALiBi, soft cap" };
        yield return generator.Fill(one with { Options = one.Options with { Mask = AttentionMask.Full, AlibiSlopes = AlibiSlopes.ForHeads(6) } }) with { Name = "ALiBi on both sides" };
        float[] bias = generator.Numbers(queries * (keys + 3), 2, AttentionElementType.Float32);
        for (int i = 0; i < bias.Length; i++)
        {
            if (i < 2 * (keys + 3)) bias[i] = i % 7 == 0 ? float.NegativeInfinity : float.MinValue;
            else if (i % 5 == 0) bias[i] = float.NegativeInfinity;
        }

        yield return generator.Fill(one) with { Name = "bias", Bias = new Broadcast<float>(bias, 1, 1, queries, keys + 3) };
        yield return generator.Fill(one) with { Name = "mask", Mask = new Broadcast<bool>([.. bias.Select(x => x > 0)], 1, 1, queries, keys + 3) };

        // Infinities and NaN in values: at keys that a mask hides from some rows, and at the last ones, which are not every row's by position.
        Problem special = generator.Fill(one) with { Name = "special values", Mask = new Broadcast<bool>([.. bias.Select(x => x > 0)], 1, 1, queries, keys + 3) };
        foreach (float[] values in special.Value)
        {
            int tokens = values.Length / (2 * valueDim);
            for (int n = 0; n < 24; n++) values[((n * 7) % tokens * 2 * valueDim) + (n * 5 % (2 * valueDim))] = (n % 3) switch { 0 => float.NaN, 1 => float.PositiveInfinity, _ => float.NegativeInfinity };
            for (int d = 0; d < valueDim; d++) values[((tokens - 1 - (d % 3)) * 2 * valueDim) + d] = d % 4 == 0 ? float.NaN : float.PositiveInfinity;
        }

        yield return special;

        // Logits of +-3e4 that differ by little: exact in float as products of integers.
        Problem large = generator.Fill(one);
        float[] Integers(float[] numbers, float factor) => [.. numbers.Select(x => MathF.Round(x * factor))];
        yield return large with
        {
            Name = "large logits",
            Query = [.. large.Query.Select(numbers => Integers(numbers, 40))],
            Key = [.. large.Key.Select(numbers => Integers(numbers, 3).Select((x, i) => (i % keyDim) switch { 0 => 2000, 1 => 1, _ => x }).ToArray())],
            Options = one.Options with { Mask = AttentionMask.Full, Scale = 1f / 16 },
        };
    }
}

/// <summary>Keeps every n-th key.</summary>
internal readonly struct EveryNth(int step, int first) : IMaskFunction
{
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => at.Key % step == first;
}

/// <summary>Keeps keys by what remains of their distance, which is negative for those behind the query.</summary>
internal readonly struct BehindBy(int step, int remainder) : IMaskFunction
{
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => (at.Key - at.Position) % step == -remainder;
}
