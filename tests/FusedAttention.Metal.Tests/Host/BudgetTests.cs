using FusedAttention.Metal.Launching;
using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>How much work a command buffer gets, by what the GPU says it took.</summary>
[Collection(FakeMetal.Collection)]
public sealed class BudgetTests
{
    private static readonly KernelFunction Attend = FakeMetal.Function("attend");

    [Fact]
    public void A_slow_command_buffer_counts_at_once_and_fast_ones_by_and_by()
    {
        var budget = new CommandBufferBudget();
        Assert.Equal(1e11, budget.Current);
        budget.Learn(cost: 5e10, seconds: 0.25);
        Assert.Equal(2e10, budget.Current, 1e3);
        budget.Learn(cost: 1e11, seconds: 0.1);
        Assert.Equal(4e10, budget.Current, 1e3);
        for (int i = 0; i < 40; i++) budget.Learn(cost: 4e10, seconds: 0.004);
        Assert.InRange(budget.Current, 0.999e12, 1e12);
    }

    [Fact]
    public void What_says_nothing_changes_nothing()
    {
        var budget = new CommandBufferBudget();
        budget.Learn(cost: 0, seconds: 1);
        budget.Learn(cost: 1e6, seconds: 0.001);
        budget.Learn(cost: 1e6, seconds: 0);
        budget.Learn(cost: 1e6, seconds: -1);
        budget.Learn(cost: 1e6, seconds: double.NaN);
        Assert.Equal(CommandBufferBudget.First, budget.Current);
    }

    [Fact]
    public void It_has_ends()
    {
        var budget = new CommandBufferBudget();
        budget.Learn(cost: 1, seconds: 10);
        Assert.Equal(CommandBufferBudget.Least, budget.Current);
        budget.Halve();
        Assert.Equal(CommandBufferBudget.Least, budget.Current);
        for (int i = 0; i < 100; i++) budget.Learn(cost: 1e15, seconds: 0.002);
        Assert.Equal(CommandBufferBudget.Most, budget.Current);
        budget.Halve();
        Assert.Equal(CommandBufferBudget.Most / 2, budget.Current);
    }

    [Fact]
    public void A_runtime_learns_from_what_has_ended()
    {
        using var fake = new FakeMetal();
        fake.Set("gpuMicroseconds", 200_000);
        using MetalRuntime runtime = FakeMetal.Runtime();
        Assert.Equal(CommandBufferBudget.First, runtime.SubmissionBudget);
        KernelLaunch launch = FakeMetal.Launch(Attend);
        launch.Cost = 5e10;
        runtime.Wait(runtime.Submit([launch, launch]));
        Assert.Equal(5e10, runtime.SubmissionBudget, 1e3);      // 1e11 in 0.2 s
        fake.Set("gpuMicroseconds", 20_000);
        runtime.Wait(runtime.Submit([launch]));
        Assert.Equal(1e11, runtime.SubmissionBudget, 1e3);      // 5e10 in 0.02 s: a quarter of the way to 2.5e11
    }

    [Fact]
    public void One_that_was_stopped_for_its_length_halves_it_and_one_that_failed_otherwise_does_not()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        KernelLaunch launch = FakeMetal.Launch(Attend);
        launch.Cost = 1e6;
        fake.Set("interruption", 14);
        Fail();
        Assert.Equal(CommandBufferBudget.First / 2, runtime.SubmissionBudget);
        fake.Set("interruption", 0);
        Fail();
        Assert.Equal(CommandBufferBudget.First / 4, runtime.SubmissionBudget);      // a timeout
        fake.Set("interruption", 5);
        Fail();
        Assert.Equal(CommandBufferBudget.First / 4, runtime.SubmissionBudget);

        void Fail()
        {
            fake.Fail("commandBuffer ends");
            Assert.Throws<MetalException>(() => runtime.Wait(runtime.Submit([launch])));
        }
    }

    /// <summary>The whole way: a call is cut finer once the GPU has turned out to be slow.</summary>
    [Fact]
    public void The_next_call_is_cut_by_what_was_learnt()
    {
        using var fake = new FakeMetal();
        using var runtime = new MetalRuntime(NativeObject.Own(Native.CreateSystemDefaultDevice(), "the device"));
        var device = new MetalDevice(runtime);
        try
        {
            using MetalTensor<Half> query = device.Allocate<Half>(5_000, 8, 64), output = device.Allocate<Half>(5_000, 8, 64), key = device.Allocate<Half>(20_000, 8, 64);
            Assert.False(device.Description.HasKnownLaneMap);

            // The plain kernel, as this device's layout of matrices is none: eight rows a threadgroup, each for 20,000 keys of 64 + 64 dimensions, counted ten times. At 1e12 a second 410 us.
            fake.Set("gpuNanosecondsAGroup", 410_000);
            Assert.Equal(21, Call());
            Assert.Equal(21, Call());
            fake.Set("gpuNanosecondsAGroup", 1_640_000);
            Assert.Equal(21, Call());
            Assert.InRange(Call(), 80, 90);

            int Call()
            {
                fake.Take();
                MetalAttention.Forward(query, key, key, output);
                output.Wait();
                return fake.Take().Count(static line => line.EndsWith(" commit", StringComparison.Ordinal));
            }
        }
        finally
        {
            device.Close();
        }
    }
}
