using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.SelfTest;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>The self-test of the lane map: that it passes what is right, and sees each way of being wrong.</summary>
public sealed unsafe class LaneMapTestTests
{
    [Fact]
    public void The_map_on_file_is_the_formula_of_the_kernels()
    {
        int[] map = LaneMapTest.Map();
        Assert.Equal(Enumerable.Range(0, 64), map.Order());
        for (int lane = 0; lane < 32; lane++)
        {
            int row = ((lane / 4) & 4) + ((lane / 2) % 4), column = (((lane / 4) & 2) * 2) + (lane % 2 * 2);
            Assert.Equal(((row * 8) + column, (row * 8) + column + 1), (map[2 * lane], map[(2 * lane) + 1]));
        }
    }

    [Fact]
    public void A_device_that_does_as_the_map_says_is_known_and_asked_once()
    {
        using RecordingRuntime runtime = Device(static map => map);
        var device = new MetalDevice(runtime);
        Assert.Empty(runtime.Submissions);
        Assert.True(device.Description.HasKnownLaneMap);
        Assert.True(device.Description.HasKnownLaneMap);
        KernelLaunch launch = Assert.Single(Assert.Single(runtime.Submissions));
        Assert.Equal((LaneMapTest.Function, new GridSize(1, 1, 1), new GridSize(32, 1, 1)), (launch.Function, launch.Threadgroups, launch.ThreadsPerThreadgroup));
        Assert.Equal(0, runtime.Living);
        device.Synchronize();
        Assert.Equal([1, 1], runtime.Waits);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Any_section_that_differs_makes_the_device_unknown(int section)
    {
        // Two lanes that have each other's elements, and one whose two are the other way round.
        foreach ((int a, int b) in ((int, int)[])[(0, 2), (17, 49), (62, 63)])
        {
            using RecordingRuntime runtime = Device(static map => map, elements =>
            {
                Span<float> part = elements.AsSpan(section * 64, 64);
                (part[a], part[b]) = (part[b], part[a]);
            });
            Assert.False(new MetalDevice(runtime).Description.HasKnownLaneMap);
        }
    }

    [Fact]
    public void A_device_with_another_map_is_unknown_and_calls_go_on_without_it()
    {
        using RecordingRuntime runtime = Device(static map => [.. map.Select(static place => (place % 8 * 8) + (place / 8))]);
        var device = new MetalDevice(runtime);
        Assert.False(device.Description.HasKnownLaneMap);
        AttentionExplanation explained = MetalAttention.Explain<Half, Half>(device, new AttentionShape(1, 512, 512, 8, 8, 64));
        Assert.DoesNotContain("prefill", explained.Kernel, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_that_writes_nothing_is_no_proof()
    {
        using var runtime = new RecordingRuntime { Device = new("Silent", 9, 32768, 1 << 26, HasKnownLaneMap: false) };
        Assert.False(new MetalDevice(runtime).Description.HasKnownLaneMap);
    }

    [Fact]
    public void The_emulator_passes()
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        using var runtime = new EmulatedRuntime { Device = new("Emulated", 7, 32768, 1 << 26, HasKnownLaneMap: false) };
        Assert.True(new MetalDevice(runtime).Description.HasKnownLaneMap);
    }

    /// <summary>A device whose lanes hold the elements that <paramref name="change"/> makes of the map's.</summary>
    private static RecordingRuntime Device(Func<int[], int[]> change, Action<float[]>? spoil = null) => new()
    {
        Device = new("Lanes", 9, 32768, 1 << 26, HasKnownLaneMap: false),
        OnLaunch = launch =>
        {
            if (launch.Function.Family != KernelFamily.LaneMap) return;
            float* left = Slot(launch, 0), right = Slot(launch, 1);
            int[] map = change(LaneMapTest.Map());
            float[] elements = new float[3 * 64];
            for (int i = 0; i < 64; i++)
            {
                elements[i] = left[map[i]];
                for (int k = 0; k < 8; k++) elements[64 + i] += left[(map[i] / 8 * 8) + k] * right[(k * 8) + (map[i] % 8)];
                elements[128 + i] = elements[64 + i];
            }

            spoil?.Invoke(elements);
            elements.CopyTo(new Span<float>(Slot(launch, 2), elements.Length));
        },
    };

    private static float* Slot(KernelLaunch launch, int index) => (float*)launch.Buffers[index].Memory.Pointer;
}
