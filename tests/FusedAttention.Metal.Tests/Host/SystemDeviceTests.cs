using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>Which devices of a system are found, and what is said where there are none.</summary>
[Collection(FakeMetal.Collection)]
public sealed class SystemDeviceTests
{
    [Fact]
    public void CoreGraphics_is_loaded_before_the_device_is_asked_for()
    {
        using var fake = new FakeMetal();
        var loaded = new List<string>();
        SystemDevices found = SystemDevices.Find(library =>
        {
            Assert.Empty(fake.Log);
            loaded.Add(library);
            return true;
        });
        Assert.Equal([Libraries.ObjectiveC, Libraries.CoreGraphics, Libraries.Metal], loaded);
        Assert.Null(found.Reason);
        using MetalRuntime only = Assert.Single(found.Runtimes);
        Assert.Equal("Fake M4", only.Device.Name);
        Assert.Equal(["MTLCreateSystemDefaultDevice -> MTLDevice#1", "MTLCopyAllDevices -> NSArray#1", "MTLDevice#1 newCommandQueue -> MTLCommandQueue#1"], fake.Take());
    }

    [Fact]
    public void Without_a_default_device_the_list_is_taken()
    {
        using var fake = new FakeMetal();
        fake.Set("defaultDevice", 0);
        using MetalRuntime only = Assert.Single(SystemDevices.Find(static _ => true).Runtimes);
        Assert.Equal("Fake M4", only.Device.Name);
    }

    [Fact]
    public void Every_device_comes_once_and_the_default_one_first()
    {
        using var fake = new FakeMetal();
        fake.Set("devices", 2);
        SystemDevices found = SystemDevices.Find(static _ => true);
        Assert.Equal(["Fake M4", "Fake Other"], found.Runtimes.Select(static runtime => runtime.Device.Name), StringComparer.Ordinal);
        foreach (MetalRuntime runtime in found.Runtimes) runtime.Dispose();
    }

    [Fact]
    public void Devices_that_the_kernels_cannot_use_are_passed_over()
    {
        using var fake = new FakeMetal();
        fake.Set("devices", 2);
        fake.Set("otherFamily", 6);
        SystemDevices found = SystemDevices.Find(static _ => true);
        Assert.Equal("Fake M4", Assert.Single(found.Runtimes).Device.Name);
        found.Runtimes[0].Dispose();
    }

    /// <summary>A virtual machine's device says that it is of family 5, and runs what it is given.</summary>
    [Fact]
    public void Whoever_asks_for_any_device_gets_those_too()
    {
        using var fake = new FakeMetal();
        fake.Set("family", 5);
        Assert.Empty(SystemDevices.Find(static _ => true).Runtimes);
        using MetalRuntime only = Assert.Single(SystemDevices.Find(static _ => true, takesAny: true).Runtimes);
        Assert.Equal(5, only.Device.AppleFamily);
    }

    [Theory]
    [InlineData("family", 6, "Fake M4 is of no Apple GPU family from 7 (M1) on")]
    [InlineData("unified", 0, "Fake M4 does not share its memory")]
    public void A_device_that_does_not_do_is_the_reason(string option, int value, string reason)
    {
        using var fake = new FakeMetal();
        fake.Set(option, value);
        SystemDevices found = SystemDevices.Find(static _ => true);
        Assert.Empty(found.Runtimes);
        Assert.Contains(reason, found.Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    public void No_device_at_all_is_said_too(int devices)
    {
        using var fake = new FakeMetal();
        fake.Set("defaultDevice", 0);
        fake.Set("devices", devices);
        Assert.Equal("The system has no Metal device.", SystemDevices.Find(static _ => true).Reason);
    }

    [Fact]
    public void A_library_that_does_not_load_is_named()
    {
        SystemDevices found = SystemDevices.Find(static library => library is not Libraries.Metal);
        Assert.Empty(found.Runtimes);
        Assert.Equal($"{Libraries.Metal} cannot be loaded.", found.Reason);
    }

    [Fact]
    public void A_system_that_is_no_Mac_is_told_so()
    {
        Assert.SkipWhen(OperatingSystem.IsMacOS(), "This is a Mac.");
        Assert.False(MetalDevice.IsSupported);
        Assert.StartsWith("it needs macOS; this is ", MetalDevice.UnsupportedReason, StringComparison.Ordinal);
#pragma warning disable CA1416 // what it does elsewhere is the point
        Assert.Empty(MetalDevice.All);
        Assert.Contains("it needs macOS", Assert.Throws<PlatformNotSupportedException>(static () => MetalDevice.Default).Message, StringComparison.Ordinal);
#pragma warning restore CA1416
    }
}
