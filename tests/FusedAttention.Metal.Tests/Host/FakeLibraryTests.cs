using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>That the fake sees what it is there to see: each mistake, made on purpose.</summary>
[Collection(FakeMetal.Collection)]
public sealed class FakeLibraryTests
{
    [Fact]
    public void It_sees_every_mistake_of_ownership()
    {
        using var fake = new FakeMetal(expectsErrors: true);
        using AutoreleasePool pool = AutoreleasePool.Open();
        nint device = Native.CreateSystemDefaultDevice();
        Assert.Equal(["MTLDevice#1 (1)"], fake.Living);
        Assert.Equal(device, Native.Retain(device));
        Native.Release(device);
        Native.Release(device);
        fake.AssertNothingLives();
        Native.Release(device);
        Messages.Get(device, Selectors.Name);
        Native.Retain(device);
        Assert.Equal(["release of released MTLDevice#1", "name was sent to released MTLDevice#1", "retain of released MTLDevice#1"], fake.Errors);
    }

    [Fact]
    public void It_sees_what_is_handed_out_without_a_pool_and_pools_that_are_not_nested()
    {
        using var fake = new FakeMetal(expectsErrors: true);
        nint device = Native.CreateSystemDefaultDevice();
        Messages.Get(device, Selectors.Name);
        Native.Release(device);
        Assert.Equal(["NSString#1 was autoreleased on a thread without a pool", "MTLDevice#1 was let go on a thread without a pool"], fake.Errors);
        nint outer = Native.PushAutoreleasePool();
        nint inner = Native.PushAutoreleasePool();
        Native.PopAutoreleasePool(outer);
        BackgroundThread.Start(() => Native.PopAutoreleasePool(inner)).Join();
        Assert.Equal(4, fake.Errors.Length);
        Native.PopAutoreleasePool(inner);
        Native.PopAutoreleasePool(outer);
        Assert.Equal(4, fake.Errors.Length);
    }

    [Fact]
    public void It_sees_encoders_and_command_buffers_that_are_used_wrongly()
    {
        using var fake = new FakeMetal(expectsErrors: true);
        nint device = Native.CreateSystemDefaultDevice();
        nint queue = Messages.Get(device, Selectors.NewCommandQueue);
        using (AutoreleasePool.Open())
        {
            nint buffer = Messages.Get(queue, Selectors.CommandBuffer);
            nint encoder = Messages.Get(buffer, Selectors.ComputeCommandEncoder);
            Messages.Call(buffer, Selectors.WaitUntilCompleted);
            Messages.Call(encoder, Selectors.DispatchThreadgroups, new MetalSize(1, 1, 1), new MetalSize(1, 1, 1));
            Messages.Call(buffer, Selectors.Commit);
            Messages.Call(encoder, Selectors.EndEncoding);
            Messages.Call(encoder, Selectors.EndEncoding);
            Messages.Call(buffer, Selectors.Commit);
            Messages.Get(Messages.Get(queue, Selectors.CommandBuffer), Selectors.ComputeCommandEncoder);
            Messages.Get(queue, Selectors.Status);
        }

        Assert.Equal(
            [
                "waiting for MTLCommandBuffer#1, which was not committed",
                "dispatch without a pipeline",
                "commit of MTLCommandBuffer#1 before endEncoding",
                "endEncoding after endEncoding of MTLComputeCommandEncoder#1",
                "second commit of MTLCommandBuffer#1",
                "MTLCommandQueue#1 does not understand status",
                "MTLComputeCommandEncoder#2 was let go without endEncoding",
            ],
            fake.Errors);
    }

    [Fact]
    public void A_message_to_nil_returns_nothing()
    {
        using var fake = new FakeMetal();
        Assert.Equal(0, Messages.Get(0, Selectors.Name));
        Assert.Equal(0, Messages.Ask(0, Selectors.HasUnifiedMemory));
        Assert.Empty(fake.Log);
    }
}
