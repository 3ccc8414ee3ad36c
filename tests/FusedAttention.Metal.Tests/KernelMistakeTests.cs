using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>The library's own kernels with mistakes that the emulator must report by name and place, where <see cref="MetalMutationTests"/> asks only that something is wrong.</summary>
public sealed class KernelMistakeTests
{
    private const string Barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);";

    [Theory]
    [InlineData(nameof(AttentionKernel.Prefill), 0)]
    [InlineData(nameof(AttentionKernel.Decode), 1)]
    public void Every_barrier_is_for_all(string family, int n) => AssertReported(
        Enum.Parse<AttentionKernel>(family), EmulatorFlavour.Plain, text => ReplaceNth(text, n, Barrier, $"if (lane < 20) {Barrier}"), "barrier for some lanes", "threads of a threadgroup wait at different barriers");

    [Slow]
    [Theory]
    [InlineData(nameof(AttentionKernel.Prefill), "if (key >= start && key < end)", "if (key >= start)")]
    [InlineData(nameof(AttentionKernel.Prefill), "if (key >= start && key < end)", "if (key >= start && key <= end)")]
    [InlineData(nameof(AttentionKernel.Decode), "return min(max(key, first_key), end_key - 1);", "return max(key, first_key);")]
    [InlineData(nameof(AttentionKernel.Decode), "return min(max(key, first_key), end_key - 1);", "return min(max(key, first_key), end_key);")]
    [InlineData(nameof(AttentionKernel.Decode), "nearest_key(tile + TILE_KEYS - 1, first_key, end_key) - tile", "TILE_KEYS - 1")]
    [InlineData(nameof(AttentionKernel.Plain), "int end = min(row.end - tile, 32);", "int end = 32;")]
    [InlineData(nameof(AttentionKernel.Plain), "int end = min(row.end - tile, 32);", "int end = min(row.end - tile + 1, 32);")]
    public void Keys_beyond_the_end_are_reported(string family, string right, string wrong)
    {
        var kernel = Enum.Parse<AttentionKernel>(family);
        Run(kernel, EmulatorFlavour.Address, text => text);
        AssertReported(kernel, EmulatorFlavour.Address, text => ReplaceNth(text, 0, right, wrong), wrong, "heap-buffer-overflow", "READ of size", $"{family.ToLowerInvariant()}.metal");
    }

    /// <summary>Scales end with their sequences as keys do. Each is two libraries to compile under the sanitizer, so a run in CI takes none.</summary>
    [Slow]
    [Theory]
    [InlineData(nameof(AttentionKernel.Prefill), "if (key >= start && key < end) {\n        if (has_key_scale)", "if (key >= start) {\n        if (has_key_scale)")]
    [InlineData(nameof(AttentionKernel.Decode), "int key_of_score = nearest_key(tile + lane_of_key % STEPS * SIDE_BY_SIDE + side, first_key, end_key);", "int key_of_score = tile + lane_of_key % STEPS * SIDE_BY_SIDE + side;")]
    [InlineData(nameof(AttentionKernel.Plain), "bool has_key = lane >= first && lane < end;", "bool has_key = lane >= first;")]
    public void Scales_beyond_the_end_are_reported(string family, string right, string wrong)
    {
        var kernel = Enum.Parse<AttentionKernel>(family);
        Assert.SkipUnless(MetalProblems.IsWhole, "Compiles under the address sanitizer: set FUSEDATTENTION_EMULATED_ALL=1.");
        Run(kernel, EmulatorFlavour.Address, text => text, codes: AttentionElementType.Int8);
        AssertReported(() => Run(kernel, EmulatorFlavour.Address, text => ReplaceNth(text, 0, right, wrong), codes: AttentionElementType.Int8), kernel, wrong, "heap-buffer-overflow", "READ of size 4", kernel == AttentionKernel.Plain ? "plain.metal" : "scales.metal");
    }

    /// <summary>Pages of one token, those before the window being gone: their entries in the block table are -1.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Prefill), "if (key >= start && key < end)", "if (key + 1 >= start && key < end)")]
    [InlineData(nameof(AttentionKernel.Decode), "return min(max(key, first_key), end_key - 1);", "return min(key, end_key - 1);")]
    [InlineData(nameof(AttentionKernel.Plain), "int first = max(row.start - tile, 0);", "int first = 0;")]
    public void Keys_before_the_start_are_reported(string family, string right, string wrong)
    {
        var kernel = Enum.Parse<AttentionKernel>(family);
        Run(kernel, EmulatorFlavour.Address, text => text, isWindow: true);
        AssertReported(kernel, EmulatorFlavour.Address, text => ReplaceNth(text, 0, right, wrong), wrong, isWindow: true, "AddressSanitizer", $"in kernel {family.ToLowerInvariant()}");
    }

    [Fact]
    public void A_slot_that_the_host_does_not_bind_is_reported() =>
        AssertReported(AttentionKernel.Prefill, EmulatorFlavour.Plain, text => ReplaceNth(text, 0, "[[buffer(5)]]", "[[buffer(15)]]"), "slot 15", "nothing is bound to slot 15 (items)");

    private static void AssertReported(AttentionKernel family, EmulatorFlavour flavour, Func<string, string> change, string what, params ReadOnlySpan<string> words) =>
        AssertReported(family, flavour, change, what, isWindow: false, words);

    private static void AssertReported(AttentionKernel family, EmulatorFlavour flavour, Func<string, string> change, string what, bool isWindow, params ReadOnlySpan<string> words) =>
        AssertReported(() => Run(family, flavour, change, isWindow), family, what, words);

    private static void AssertReported(Action run, AttentionKernel family, string what, params ReadOnlySpan<string> words)
    {
        try
        {
            run();
        }
        catch (MetalEmulationException e)
        {
            foreach (string word in words) Assert.True(e.Message.Contains(word, StringComparison.Ordinal), $"{what}: \"{word}\" is not in: {e.Message}");
            return;
        }

        Assert.Fail($"{family}, {what}: nothing was reported.");
    }

    /// <summary>Three tiles of keys and an odd rest, two blocks of rows, and for decode all simdgroups on one set of rows.</summary>
    private static void Run(AttentionKernel family, EmulatorFlavour flavour, Func<string, string> change, bool isWindow = false, AttentionElementType? codes = null)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        var generator = new ProblemGenerator(78);
        Problem problem = generator.Fill(new Problem
        {
            Name = "mistakes",
            Form = isWindow ? CallForm.Paged : CallForm.Packed,
            BlockSize = 1,
            QueryType = AttentionElementType.Float16,
            KeyValueType = AttentionElementType.Float16,
            Heads = 2,
            KeyValueHeads = 1,
            KeyDim = 64,
            ValueDim = 64,
            QueryLengths = [family == AttentionKernel.Decode ? 1 : 21],
            KeyLengths = [107],
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions { Mask = isWindow ? AttentionMask.CausalWindow(29) : AttentionMask.Full },
        });
        if (codes is { } type) problem = HiddenScales.OfTokens(generator, generator.WithEightBits(problem, type));
        using var runtime = new EmulatedRuntime(flavour) { Source = function => change(KernelSource.Compose(function)) };
        Caller.Run(problem, arrangement: null, new MetalCaller(runtime, family)).AssertClose(problem, RowByRow.Solve(problem));
    }

    private static string ReplaceNth(string text, int n, string right, string wrong)
    {
        int at = -1;
        for (int i = 0; i <= n; i++)
        {
            at = text.IndexOf(right, at + 1, StringComparison.Ordinal);
            ArgumentOutOfRangeException.ThrowIfNegative(at);
        }

        return $"{text[..at]}{wrong}{text[(at + right.Length)..]}";
    }
}
