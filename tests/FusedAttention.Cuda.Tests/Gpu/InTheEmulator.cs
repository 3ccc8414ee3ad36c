#pragma warning disable MA0048 // What runs in the emulator: a list.
using FusedAttention.Cuda.Emulation.Runtime;
using FusedAttention.Cuda.Planning;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <inheritdoc />
[Slow]
public sealed class EmulatedBiasTests() : BiasTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBitTests() : BitTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedCacheTests() : CacheTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedEightBitCacheTests() : EightBitCacheTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedEightBitTests() : EightBitTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedFarTests() : FarTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedFeaturePairTests() : FeaturePairTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedFeatureTripleTests() : FeatureTripleTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedFunctionTests() : FunctionTests(TestDevice.Emulator)
{
    /// <inheritdoc cref="HiddenTiles" />
    [Xunit.Fact]
    public void Tiles_of_which_nothing_is_kept_cost_a_look() => HiddenTiles.AssertAreNotRead(static () => new(new EmulatedRuntime()), 64, 0.5);
}

/// <summary>Instructions of calls that keep a few keys by a mask function, as there is no clock: tiles of the others are not read.</summary>
internal static class HiddenTiles
{
    /// <summary>A tile of 1,024 keys, all of them, and a call over no more keys than a tile.</summary>
    /// <param name="make">Makes a device of an <see cref="EmulatedRuntime"/>.</param>
    /// <param name="tile">Keys of a tile.</param>
    /// <param name="most">Of the instructions over all keys, those over the window: asking which tiles are seen costs both the same, and products of warpgroups are few instructions.</param>
    public static void AssertAreNotRead(Func<CudaDevice> make, int tile, double most)
    {
        long few = Executed(make, 1024, isKept: k => k / tile == 5, 0), all = Executed(make, 1024, static _ => true, 0), alone = Executed(make, tile, static _ => true, 0);
        Xunit.Assert.InRange(few, alone, (long)(most * all));

        // NaN in values that are read would have the item done again.
        Xunit.Assert.Equal(few, Executed(make, 1024, k => k / tile == 5, float.NaN));
    }

    private static long Executed(Func<CudaDevice> make, int keys, Func<int, bool> isKept, float hidden)
    {
        CudaDevice device = make();
        using GpuCaller caller = new(device, Devices.AttentionKernel.Prefill);
        Problem problem = HiddenKeyProblems.Of(64, keys, AttentionElementType.Float16, "nothing");
        var byKey = new ScoreTable([.. Enumerable.Range(0, keys).Select(k => isKept(k) ? 1f : 0)]);
        problem = problem with { Options = problem.Options with { MaskFunction = MaskFunction.Of(new Listed(byKey)) } };
        Victim[] victims = [.. Enumerable.Range(0, keys).Where(k => !isKept(k)).SelectMany(k => Enumerable.Range(0, problem.KeyValueHeads).Select(h => new Victim(0, h, k)))];
        GpuProblems.Run(HiddenKeys.With(problem, victims, _ => hidden, _ => hidden), null, caller);
        return ((EmulatedRuntime)device.Runtime).Executed;
    }
}

/// <inheritdoc />
[Slow]
public sealed class EmulatedGrowthTests() : GrowthTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHiddenKeysTests() : HiddenKeysTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedLengthTests() : LengthTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedMaskTests() : MaskTests(TestDevice.Emulator)
{
    /// <summary>Instructions, as there is no clock: 64 of 1,024 keys seen, all of them, and a call over 64 keys.</summary>
    [Xunit.Fact]
    public void Tiles_that_nobody_sees_cost_a_look_at_their_mask()
    {
        long few = Executed(1024, static k => k / 64 == 9), all = Executed(1024, static _ => true), alone = Executed(64, static _ => true);
        Xunit.Assert.InRange(few, alone, 1.5 * alone);

        // Of what a tile costs that is seen, without what a call costs anyway.
        Xunit.Assert.InRange(few - alone, 0, (all - alone) / 16);
    }

    private static long Executed(int keys, Func<int, bool> sees)
    {
        var runtime = new EmulatedRuntime();
        using GpuCaller caller = new(new CudaDevice(runtime), Devices.AttentionKernel.Prefill);
        GpuProblems.Run(ProblemOf(("some tiles", (_, _, k, _) => sees(k)), 64, 64, queries: 64, keys, hasHeads: false, number: 0), null, caller);
        return runtime.Executed;
    }
}

/// <inheritdoc />
[Slow]
public sealed class EmulatedMergeTests() : MergeTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedReferenceTests() : ReferenceTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedSoftCapTests() : SoftCapTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedStreamTests() : StreamTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedSweepTests() : SweepTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedTileNumberTests() : TileNumberTests(TestDevice.Emulator);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperBiasTests() : BiasTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperBitTests() : BitTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperFeaturePairTests() : FeaturePairTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperFeatureTripleTests() : FeatureTripleTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperFunctionTests() : FunctionTests(TestDevice.EmulatedHopper)
{
    /// <inheritdoc cref="HiddenTiles" />
    [Xunit.Fact]
    public void Tiles_of_which_nothing_is_kept_cost_a_look() => HiddenTiles.AssertAreNotRead(TestDevice.NewHopper, 128, 0.6);
}

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperGrowthTests() : GrowthTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperHiddenKeysTests() : HiddenKeysTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperLengthTests() : LengthTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperMaskTests() : MaskTests(TestDevice.EmulatedHopper)
{
    /// <summary>NaN in values that no row sees would have an item done again if they were read.</summary>
    [Xunit.Fact]
    public void Tiles_that_nobody_sees_are_not_read()
    {
        Problem problem = ProblemOf(("some tiles", static (_, _, k, _) => k / 128 == 2), 64, 64, queries: 64, keys: 640, hasHeads: false, number: 0);
        Victim[] hidden = [.. Enumerable.Range(0, 640).Where(static k => k / 128 != 2).SelectMany(static k => new Victim[] { new(0, 0, k), new(0, 1, k) })];
        Victim[] inTheTile = [new(0, 0, 300), new(0, 1, 300)];
        long zeros = Executed(HiddenKeys.With(problem, hidden, static _ => 0, static _ => 0)), special = Executed(HiddenKeys.With(problem, hidden, static _ => float.NaN, static _ => float.NaN));
        Xunit.Assert.Equal(zeros, special);
        Xunit.Assert.True(Executed(HiddenKeys.With(problem, inTheTile, static _ => 0, static _ => float.NaN)) > zeros, "A second pass costs nothing.");
    }

    private static long Executed(Problem problem)
    {
        var runtime = new EmulatedRuntime { Device = TestDevice.EmulatedHopper.Open().Description };
        using GpuCaller caller = new(new CudaDevice(runtime) { PrefillForm = PrefillForm.Warpgroups }, Devices.AttentionKernel.Prefill);
        GpuProblems.Run(problem, null, caller);
        return runtime.Executed;
    }
}

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperReferenceTests() : ReferenceTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperSoftCapTests() : SoftCapTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperSweepTests() : SweepTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedHopperTileNumberTests() : TileNumberTests(TestDevice.EmulatedHopper);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesBitTests() : BitTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesFeaturePairTests() : FeaturePairTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesFeatureTripleTests() : FeatureTripleTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesFunctionTests() : FunctionTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesEightBitTests() : EightBitTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesHiddenKeysTests() : HiddenKeysTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesLengthTests() : LengthTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesMaskTests() : MaskTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesReferenceTests() : ReferenceTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesSoftCapTests() : SoftCapTests(TestDevice.EmulatedBoxes);

/// <inheritdoc />
[Slow]
public sealed class EmulatedBoxesSweepTests() : SweepTests(TestDevice.EmulatedBoxes);
