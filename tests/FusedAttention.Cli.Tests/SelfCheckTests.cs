using FusedAttention.Checking.Checks;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends.Metal;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.SelfTest;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary><c>verify</c> without files: that it reaches everything, passes what is right, and fails what is wrong.</summary>
public sealed class SelfCheckTests(ITestOutputHelper output)
{
    [Slow]
    [Fact]
    public async Task The_cpu_passes()
    {
        ToolRun run = await ToolRun.Execute("verify", "--backend", "cpu", "--only", ":");

        run.AssertSucceeds();
        Assert.Matches("^checks: [1-9][0-9]+ passed, 0 failed$", run.LastLine);
        Assert.Contains("types and dimensions: ", run.Output, StringComparison.Ordinal);
        Assert.Contains("---- summary", run.Output, StringComparison.Ordinal);
    }

    [Slow]
    [Theory]
    [InlineData("simdgroup matrices", "lane map", 1)]
    [InlineData("merge: fp32, D", "merge", 1)]
    [InlineData("paged cache: fp16", "cache", 1)]
    [InlineData("features: sinks, D 64 bf16, 45 queries", "prefill", 1)]
    [InlineData("features: sinks, D 20", "plain", 1)]
    [InlineData("paged, blocks of 7, D 64", "prefill + decode, paged", 1)]
    [InlineData("in chunks and at once, D 64 fp32", "prefill", 3)]
    [InlineData("8 bits: D 64, 3 queries fp16 over fp8", "decode", 1)]
    public async Task An_emulated_device_passes(string only, string kernel, int count)
    {
        using EmulatedRuntime runtime = Machines.Emulator();

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "verify", "--backend", "metal", "--only", only);

        output.WriteLine(run.Output);
        run.AssertSucceeds();
        Assert.Equal($"checks: {count} passed, 0 failed", run.LastLine);
        Assert.Matches($@"\n{System.Text.RegularExpressions.Regex.Escape(kernel)} +{count} +{count} ", run.Output);
    }

    [Slow]
    [Fact]
    public async Task A_device_that_computes_nothing_fails_everything()
    {
        using RecordingRuntime runtime = Machines.Idle(hasKnownLaneMap: false);

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "verify", "--backend", "metal", "--only", ":");

        Assert.Equal(1, run.ExitCode);
        Assert.Matches("^checks: 0 passed, [1-9][0-9]+ failed, 10 of them named here$", run.LastLine);
        Assert.Contains("\nFAILED merge: fp32, D 64 (merge): output error", run.Output, StringComparison.Ordinal);
        Assert.Contains("\nFAILED paged cache: fp32", run.Output, StringComparison.Ordinal);
        Assert.Contains("\nFAILED features: full, D 64 fp32, 45 queries (plain): output error", run.Output, StringComparison.Ordinal);
        Assert.Contains("NOT as expected: prefill is not used", run.Output, StringComparison.Ordinal);
        Assert.Contains("\n31: ? ? (expected 7,6 7,7), product of loaded matrices elsewhere, product of matrices placed by our map wrong\n", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_device_that_fails_is_reported_with_the_kernel_that_ran()
    {
        using RecordingRuntime runtime = new() { Device = Machines.Idle().Device, OnLaunch = static launch => throw new MetalException($"no {launch.Function.Name} today") };

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "verify", "--backend", "metal", "--only", "features: full");

        Assert.Equal(1, run.ExitCode);
        Assert.Contains("FAILED features: full, D 64 fp32, 45 queries (prefill): MetalException: no prefill today", run.Output, StringComparison.Ordinal);
        Assert.Contains("FAILED features: full, D 64 fp16, 3 queries (decode): MetalException: no decode today", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public unsafe void A_second_call_with_other_bits_fails()
    {
        int calls = 0;
        using RecordingRuntime runtime = new() { Device = Machines.Idle().Device, OnLaunch = launch => *(ushort*)RecordingRuntime.At(launch, 3) = (ushort)calls++ };

        CheckOutcome outcome = new ProblemCheck("bits", "twice", new() { QueryLengths = [3], KeyLengths = [9] }).Run(new MetalBackend(new(runtime)), RunOptions.Default);

        Assert.Equal(2, calls);
        Assert.EndsWith("; a second call gave other bits", outcome.Failure, StringComparison.Ordinal);
    }

    /// <summary>Where a backend takes codes with scales beside them, and no blocks, nothing of blocks is checked: it would be refused.</summary>
    [Fact]
    public void Blocks_are_checked_where_they_are_taken()
    {
        using RecordingRuntime runtime = Machines.Idle();
        Check[] device = [.. SelfCheck.Choose(new MetalBackend(new(runtime)), [], "keys and values of 8 bits")], all = [.. BuiltInChecks.EightBits(withBlocks: true)];
        Assert.Equal(2, device.OfType<ProblemCheck>().Select(static check => check.Recipe.KeyValueType).Distinct().Count());
        Assert.Equal(all.Where(static check => !check.Name.EndsWith("q8_0", StringComparison.Ordinal)).Select(static check => check.FullName), device.Select(static check => check.FullName), StringComparer.Ordinal);
        Assert.True(all.Length > device.Length);
    }

    [Slow]
    [Fact]
    public void Every_kernel_pair_of_types_and_feature_is_reached()
    {
        Check[] checks = [.. BuiltInChecks.All()];
        Assert.Equal(checks.Length, checks.Select(static check => check.FullName).Distinct(StringComparer.Ordinal).Count());

        using RecordingRuntime runtime = Machines.Idle();
        var backend = new MetalBackend(new(runtime));
        CallRecipe[] recipes = [.. checks.OfType<ProblemCheck>().Select(static check => check.Recipe)];
        var reached = new HashSet<(string Kernel, TensorElementType Query, TensorElementType KeyValue)>();
        bool splits = false;
        foreach (CallRecipe recipe in recipes)
        {
            CallInputs call = recipe.CreateCall(RunOptions.Default);
            AttentionExplanation explanation = backend.Explain(call, RunOptions.Default);
            reached.Add((explanation.Kernel, recipe.QueryType, recipe.KeyValueType));
            splits |= explanation.Details.Contains("splits", StringComparison.Ordinal);
        }

        Assert.True(splits);
        foreach (string kernel in (string[])["prefill", "decode", "plain"])
        {
            foreach ((TensorElementType Query, TensorElementType KeyValue) pair in (ReadOnlySpan<(TensorElementType, TensorElementType)>)
            [
                (TensorElementType.Float32, TensorElementType.Float32), (TensorElementType.Float16, TensorElementType.Float16), (TensorElementType.BFloat16, TensorElementType.BFloat16),
                (TensorElementType.Float32, TensorElementType.Float16), (TensorElementType.Float32, TensorElementType.BFloat16),
            ]) Assert.Contains((kernel, pair.Query, pair.KeyValue), reached);
        }

        Assert.Contains(recipes, static r => r.HasMask && r.Layout == SequenceLayout.Paged);
        foreach (TensorElementType type in (TensorElementType[])[TensorElementType.Float32, TensorElementType.Float16, TensorElementType.BFloat16]) Assert.Contains(recipes, r => r.BiasType == type);
        foreach (Predicate<AttentionOptions> feature in (Predicate<AttentionOptions>[])
        [
            static o => o.Mask.IsCausal, static o => o.Mask.WindowLeft is not null, static o => o.Mask.WindowRight is not null, static o => o.Alignment == AttentionAlignment.TopLeft,
            static o => o.QueryOffset is not null, static o => o.Scale is not null, static o => !o.AlibiSlopes.IsDefaultOrEmpty, static o => o.SoftCap > 0, static o => !o.SinkLogits.IsDefaultOrEmpty, static o => o.RowInvariant,
        ]) Assert.Contains(recipes, r => feature(r.Options));
    }

    [Fact]
    public void Lanes_that_differ_are_named_with_what_they_hold()
    {
        int[] map = LaneMapTest.Map();
        float[] seen = Seen(map);
        Assert.Empty(LaneMapCheck.Differences(seen, map));

        (seen[10], seen[11]) = (seen[11], seen[10]);
        seen[64 + 40]++;
        seen[128 + 63] = float.NaN;
        Assert.Equal(
            ["5: 2,3 2,2 (expected 2,2 2,3)", "20: 6,0 6,1, product of loaded matrices elsewhere", "31: 7,6 7,7, product of matrices placed by our map wrong"],
            LaneMapCheck.Differences(seen, map), StringComparer.Ordinal);

        // A device whose matrices lie by columns differs in every lane but those with elements of the diagonal alone, of which there is none.
        Assert.Equal(32, LaneMapCheck.Differences(Seen([.. map.Select(static place => (place % 8 * 8) + (place / 8))]), map).Length);
    }

    [Theory]
    [InlineData("--only nothing-is-called-so", "no check is called so")]
    [InlineData("--causal", "No query")]
    [InlineData("--dtype fp16", "No query")]
    [InlineData(". --only merge", "'conform' runs a folder alone")]
    [InlineData("{empty}", "no .safetensors file under")]
    [InlineData("x.safetensors --only merge", "--only chooses among the checks that run without files")]
    public async Task What_makes_no_sense_is_refused(string arguments, string words)
    {
        using var folder = new TemporaryFolder();
        (await ToolRun.Execute(["verify", .. arguments.Replace("{empty}", folder.Path, StringComparison.Ordinal).Split(' ')])).AssertRefused(words);
    }

    [Fact]
    public async Task All_of_verify_over_the_emulator()
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("FUSEDATTENTION_EMULATED_VERIFY") is "1", "Takes one to several minutes: set FUSEDATTENTION_EMULATED_VERIFY=1.");
        using EmulatedRuntime runtime = Machines.Emulator();

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "verify", "--backend", "metal", ReferenceData.Subset);

        output.WriteLine(run.Output);
        run.AssertSucceeds();
    }

    private static float[] Seen(int[] map)
    {
        float[] seen = new float[3 * 64];
        for (int i = 0; i < 64; i++)
        {
            seen[i] = LaneMapCheck.Left(map[i]);
            for (int k = 0; k < 8; k++) seen[64 + i] += LaneMapCheck.Left((map[i] / 8 * 8) + k) * LaneMapCheck.Right((k * 8) + (map[i] % 8));
            seen[128 + i] = seen[64 + i];
        }

        return seen;
    }

}
