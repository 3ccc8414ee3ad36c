using FusedAttention.Cuda.Driver;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests.Driver;

/// <summary>Which devices there are, and why there is none.</summary>
[Collection(FakeDriver.Collection)]
public sealed class SystemDevicesTests
{
    [Fact]
    public void A_device_is_described_and_has_no_context_before_it_is_used()
    {
        using var fake = new FakeDriver();
        SystemDevices found = SystemDevices.Find(fake.Find);
        Assert.Null(found.Reason);
        using CudaRuntime runtime = Assert.Single(found.Runtimes);
        Assert.Equal(new CudaDeviceDescription(0, "Fake H100", 9, 0, 132, 232448, 80L << 30, 13000) { L2Bytes = 50 << 20 }, runtime.Device);
        Assert.Empty(fake.Take());
    }

    [Fact]
    public void Cards_that_are_too_old_are_left_out()
    {
        using var fake = new FakeDriver();
        fake.Devices.Insert(0, new("Fake V100", 7, 0));
        Assert.Equal((1, "Fake H100"), SystemDevices.Find(fake.Find).Runtimes.Select(static r => (r.Device.Ordinal, r.Device.Name)).Single());
        fake.Devices.RemoveAt(1);
        Assert.Equal("Fake V100 has compute capability 7.0; 8.0 (Ampere) or later is needed.", Reason(fake));
    }

    [Fact]
    public void The_reason_says_what_the_driver_said()
    {
        using var fake = new FakeDriver();
        fake.Version = 11020;
        Assert.Equal("The NVIDIA driver knows CUDA 11.2; 11.4 or later is needed.", Reason(fake));
        fake.Devices.Clear();
        fake.Version = 12040;
        Assert.Equal("The NVIDIA driver has no device.", Reason(fake));
        fake.Failing["cuInit"] = 100;
        Assert.Equal("cuInit: CUDA_ERROR_NO_DEVICE (100): what went wrong", Reason(fake));
        fake.Failing["cuInit"] = 12345;
        Assert.Equal("cuInit: error 12345, which the driver does not know", Reason(fake));
        fake.Missing.Add("cuStreamIsCapturing");
        Assert.Equal("The NVIDIA driver has no cuStreamIsCapturing: it is too old.", Reason(fake));
    }

    [Fact]
    public void This_machine_has_devices_or_a_reason()
    {
        Assert.Equal(CudaDevice.IsSupported, CudaDevice.UnsupportedReason is null);
        Assert.Equal(CudaDevice.IsSupported, CudaDevice.All.Count > 0);
        if (CudaDevice.IsSupported) Assert.Same(CudaDevice.Default, CudaDevice.All[0]);
        else Assert.Contains(CudaDevice.UnsupportedReason!, Assert.Throws<CudaException>(static () => CudaDevice.Default).Message, StringComparison.Ordinal);
    }

    private static string? Reason(FakeDriver fake)
    {
        SystemDevices found = SystemDevices.Find(fake.Find);
        Assert.Empty(found.Runtimes);
        return found.Reason;
    }
}
