using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>What the GPU says it took: for <c>bench</c>.</summary>
[Collection(FakeMetal.Collection)]
public sealed class ClockTests
{
    private static readonly KernelFunction Attend = FakeMetal.Function("attend");

    [Fact]
    public void Submissions_that_have_ended_well_are_counted_once()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenTold;
        using MetalRuntime runtime = FakeMetal.Runtime();
        for (int i = 0; i < 3; i++) runtime.Submit([FakeMetal.Launch(Attend)]);
        Assert.Equal(0, runtime.WorkedSeconds);
        fake.Finish(left: 1);
        Assert.Equal(2, runtime.Completed);
        Assert.Equal(0.5, runtime.WorkedSeconds);
        fake.Finish();
        runtime.Wait(3);
        runtime.Wait(3);
        Assert.Equal(0.75, runtime.WorkedSeconds);
    }

    [Fact]
    public void One_that_failed_is_not_counted()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        runtime.Submit([FakeMetal.Launch(Attend)]);
        fake.Fail("commandBuffer ends");
        long failing = runtime.Submit([FakeMetal.Launch(Attend)]);
        Assert.Throws<MetalException>(() => runtime.Wait(failing));
        Assert.Equal(0.25, runtime.WorkedSeconds);
    }

    [Fact]
    public void A_device_has_its_runtimes_clock_or_none()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        var device = new MetalDevice(runtime);
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.Equal(0.25, device.GpuSeconds);
        using var idle = new RecordingRuntime();
        Assert.Null(new MetalDevice(idle).GpuSeconds);
    }
}
