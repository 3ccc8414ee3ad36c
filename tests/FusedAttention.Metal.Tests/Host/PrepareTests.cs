using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>What explaining, preparing and the first call do on a device that was never used.</summary>
public sealed class PrepareTests : IDisposable
{
    private readonly RecordingRuntime _runtime = new();
    private readonly MetalDevice _device;

    public PrepareTests() => _device = new(_runtime);

    public void Dispose() => _runtime.Dispose();

    [Fact]
    public void Tensors_that_begin_anywhere_are_prepared_for_when_that_is_said()
    {
        var shape = new AttentionShape(1, 40, 100, 8, 2, 64);
        using MetalTensor<Half> query = _device.Allocate<Half>((40 * 8 * 64) + 1), output = _device.Allocate<Half>(40, 8, 64), key = _device.Allocate<Half>(100, 2, 64);
        MetalTensor<Half> aligned = query.View(0, [40, 8, 64], [8 * 64, 64, 1]), odd = query.View(1, [40, 8, 64], [8 * 64, 64, 1]);

        MetalAttention.Prepare<Half, Half>(_device, shape);
        KernelFunction[] without = [.. _runtime.Prepared];
        MetalAttention.Prepare<Half, Half>(_device, shape, operands: OperandKinds.Unaligned);
        KernelFunction[] with = [.. _runtime.Prepared];
        Assert.Single(without);
        Assert.All(with, static f => Assert.Equal("prefill", f.Name));
        Assert.Equal([1, 1, 0], with.Select(static f => f.Constants.Single(static c => c.Name is "is_aligned").Bits));

        Assert.Empty(Used(aligned).Except(without));
        Assert.NotEmpty(Used(odd).Except(without));
        Assert.Empty(Used(odd).Except(with));

        KernelFunction[] Used(MetalTensor<Half> from)
        {
            _runtime.Prepared.Clear();
            MetalAttention.Forward(from, key, key, output);
            return [.. _runtime.Prepared];
        }
    }

    [Fact]
    public void Only_preparing_and_calling_ask_the_device()
    {
        int asked = 0;
        using var runtime = Unexamined(launch => asked++);
        var device = new MetalDevice(runtime);
        var shape = new AttentionShape(1, 512, 512, 8, 8, 64);
        AttentionExplanation before = MetalAttention.Explain<Half, Half>(device, shape);
        Assert.Equal(("prefill", 0), (before.Kernel, asked));
        Assert.Contains("the first call will look", before.Details, StringComparison.Ordinal);
        MetalAttention.Prepare<Half, Half>(device, shape);
        MetalAttention.Prepare<Half, Half>(device, shape);
        Assert.Equal(1, asked);

        // The device wrote nothing, so its layout is not the known one.
        AttentionExplanation after = MetalAttention.Explain<Half, Half>(device, shape);
        Assert.Equal("plain", after.Kernel);
        Assert.DoesNotContain("the first call will look", after.Details, StringComparison.Ordinal);
    }

    [Fact]
    public void A_self_test_that_failed_is_tried_again()
    {
        int failures = 2;
        using var runtime = Unexamined(launch =>
        {
            if (failures-- > 0) throw new MetalException("out of memory");
        });
        var device = new MetalDevice(runtime);
        using MetalTensor<float> query = device.Allocate<float>(1, 8, 64), output = device.Allocate<float>(1, 8, 64);
        Assert.Throws<MetalException>(() => MetalAttention.Forward(query, query, query, output));
        Assert.Throws<MetalException>(() => MetalAttention.Forward(query, query, query, output));
        MetalAttention.Forward(query, query, query, output);
        Assert.True(output.IsPending);
    }

    private static RecordingRuntime Unexamined(Action<KernelLaunch> onSelfTest) => new()
    {
        Device = new("Unexamined", 9, 32768, 1 << 26, HasKnownLaneMap: false),
        OnLaunch = launch =>
        {
            if (launch.Function.Family == KernelFamily.LaneMap) onSelfTest(launch);
        },
    };
}
