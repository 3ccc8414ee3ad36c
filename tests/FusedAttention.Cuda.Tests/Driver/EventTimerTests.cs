using FusedAttention.Cuda.Driver;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests.Driver;

/// <summary>Timing by events.</summary>
[Collection(FakeDriver.Collection)]
public sealed class EventTimerTests : IDisposable
{
    private readonly FakeDriver _fake = new();

    public void Dispose() => _fake.Dispose();

    [Fact]
    public void A_timer_is_two_events_that_are_used_again()
    {
        CudaRuntime runtime = Assert.Single(SystemDevices.Find(_fake.Find).Runtimes);
        Assert.Equal(50 << 20, runtime.Device.L2Bytes);
        using var stream = (DriverStream)runtime.CreateStream();
        IStreamTimer timer = stream.CreateTimer();
        Assert.Equal(2, _fake.LivingEvents);
        for (int i = 0; i < 3; i++)
        {
            timer.Start();
            timer.Stop();
            Assert.Equal(2.5, timer.Milliseconds());
        }

        _fake.Failing["cuEventSynchronize"] = 700;
        Assert.Contains("CUDA_ERROR_ILLEGAL_ADDRESS", Assert.Throws<CudaException>(() => timer.Milliseconds()).Message, StringComparison.Ordinal);
        timer.Dispose();
        timer.Dispose();
        Assert.Equal(0, _fake.LivingEvents);
        _fake.Failing["cuEventCreate"] = 2;
        Assert.Throws<CudaException>(() => stream.CreateTimer());
        runtime.Dispose();
    }
}
