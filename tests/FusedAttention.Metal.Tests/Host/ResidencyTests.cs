using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>Memory that stays where the GPU reaches it: what is sent, when, for how long, and nothing where the system has no such thing.</summary>
[Collection(FakeMetal.Collection)]
public sealed class ResidencyTests
{
    private static readonly KernelFunction Attend = FakeMetal.Function("attend");

    [Fact]
    public void Caches_and_large_tensors_are_kept_and_others_are_not()
    {
        using var runtime = new RecordingRuntime { Device = new("Recorder", AppleFamily: 9, MaxThreadgroupMemory: 32768, MaxBufferLength: 1 << 28, HasKnownLaneMap: true) };
        var device = new MetalDevice(runtime);
        using MetalTensor<float> small = device.Allocate<float>((16 << 20) - 1), large = device.Allocate<float>(16 << 20);
        Assert.Equal([64 << 20], runtime.Resident);
        using var cache = new MetalPagedKeyValueCache<Half>(device, new PagedKeyValueCacheOptions { Layers = 2, Blocks = 4, BlockSize = 4, KeyValueHeads = 1, KeyDim = 8, ValueDim = 16 });
        Assert.Equal([64 << 20, 256, 512, 256, 512], runtime.Resident);
    }

    [Fact]
    public void Memory_is_added_and_asked_for_and_taken_out_before_it_goes()
    {
        using var fake = new FakeMetal();
        var time = new ManualTime();
        using MetalRuntime runtime = Runtime(time);
        DeviceMemory first = runtime.Allocate(1024), second = runtime.Allocate(2048);
        fake.Take();
        runtime.KeepResident(first);
        Assert.Equal(
            [
                "[MTLResidencySetDescriptor new] -> MTLResidencySetDescriptor#1",
                "MTLDevice#1 newResidencySet -> MTLResidencySet#1",
                "MTLCommandQueue#1 addResidencySet: MTLResidencySet#1",
                "MTLResidencySet#1 addAllocation: MTLBuffer#1",
                "MTLResidencySet#1 commit",
                "MTLResidencySet#1 requestResidency",
            ],
            fake.Take());
        runtime.KeepResident(second);
        Assert.Equal(["MTLResidencySet#1 addAllocation: MTLBuffer#2", "MTLResidencySet#1 commit", "MTLResidencySet#1 requestResidency"], fake.Take());
        first.Dispose();
        Assert.Equal(["MTLResidencySet#1 removeAllocation: MTLBuffer#1", "MTLResidencySet#1 commit"], fake.Take());
        second.Dispose();
        Assert.Equal(["MTLResidencySet#1 removeAllocation: MTLBuffer#2", "MTLResidencySet#1 commit", "MTLResidencySet#1 endResidency"], fake.Take());
        Assert.DoesNotContain(fake.Living, static name => name.StartsWith("MTLBuffer", StringComparison.Ordinal));

        // Nothing is left to be kept.
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
        time.Advance(seconds: 10);
        Assert.DoesNotContain(fake.Take(), static line => line.Contains("Residency", StringComparison.Ordinal));
    }

    [Fact]
    public void A_heart_beats_while_the_device_is_in_use_and_some_minutes_longer()
    {
        using var fake = new FakeMetal();
        var time = new ManualTime();
        using MetalRuntime runtime = Runtime(time);
        using DeviceMemory memory = runtime.Allocate(1024);
        runtime.KeepResident(memory);
        fake.Take();
        time.Advance(seconds: 1.6);
        Assert.Equal(3, Beats());

        // Work that goes on asks for nothing more, and puts the end off.
        time.Advance(seconds: 100);
        Assert.Equal(200, Beats());
        Submit();
        Assert.Equal(0, Beats());
        time.Advance(seconds: Residency.KeptSeconds - 1);
        Assert.InRange(Beats(), (2 * Residency.KeptSeconds) - 4, 2 * Residency.KeptSeconds);
        time.Advance(seconds: 2);
        Assert.Single(fake.Take(), static line => line is "MTLResidencySet#1 endResidency");
        time.Advance(seconds: 1000);
        Assert.Empty(fake.Take());

        // The first call after the rest asks before its work, the next ones do not.
        Submit();
        string[] sent = fake.Take();
        Assert.Equal("MTLResidencySet#1 requestResidency", sent[0]);
        Assert.Single(sent, static line => line.Contains("Residency", StringComparison.Ordinal));
        time.Advance(seconds: 0.6);
        Assert.Equal(1, Beats());

        int Beats()
        {
            string[] fresh = fake.Take();
            Assert.DoesNotContain(fresh, static line => line.EndsWith("endResidency", StringComparison.Ordinal));
            return fresh.Count(static line => line is "MTLResidencySet#1 requestResidency");
        }

        void Submit() => runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
    }

    [Fact]
    public void No_more_is_kept_than_the_system_recommends_to_use()
    {
        using var fake = new FakeMetal();
        fake.Set("workingSet", 3000);
        using MetalRuntime runtime = Runtime(new ManualTime());
        using DeviceMemory first = runtime.Allocate(2000), third = runtime.Allocate(1000);
        DeviceMemory second = runtime.Allocate(1500);
        foreach (DeviceMemory memory in (DeviceMemory[])[first, second, third]) runtime.KeepResident(memory);
        second.Dispose();
        Assert.Equal(
            ["MTLResidencySet#1 addAllocation: MTLBuffer#1", "MTLResidencySet#1 addAllocation: MTLBuffer#2"],
            fake.Take().Where(static line => line.Contains("Allocation:", StringComparison.Ordinal)), StringComparer.Ordinal);
    }

    [Fact]
    public void Memory_that_nobody_disposes_is_taken_out_by_the_finaliser()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = Runtime(new ManualTime());
        var device = new MetalDevice(runtime);
        Forget(device);
        for (int i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.Contains("MTLResidencySet#1 removeAllocation: MTLBuffer#1", fake.Log, StringComparer.Ordinal);
        Assert.Contains("dealloc MTLBuffer#1", fake.Log, StringComparer.Ordinal);
        GC.KeepAlive(device);

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        static void Forget(MetalDevice device) => device.AllocateMemory(64, isCache: true);
    }

    /// <summary>Before macOS 15, or where it fails: no word about it, and everything works.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_system_without_it_is_left_alone(bool fails)
    {
        using var fake = new FakeMetal();
        if (fails) fake.Fail("newResidencySetWithDescriptor:error:");
        else fake.Set("residency", 0);
        using MetalRuntime runtime = Runtime(new ManualTime());
        using DeviceMemory memory = runtime.Allocate(1024);
        runtime.KeepResident(memory);
        runtime.KeepResident(memory);
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend, new BufferBinding(0, memory, 0, IsWritten: true))]));
        Assert.Equal(fails ? 1 : 0, fake.Take().Count(static line => line.Contains("newResidencySet", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_new_queue_has_it_too()
    {
        using var fake = new FakeMetal();
        fake.Set("interruption", 4);
        using MetalRuntime runtime = Runtime(new ManualTime());
        using DeviceMemory memory = runtime.Allocate(1024);
        runtime.KeepResident(memory);
        fake.Fail("commandBuffer ends");
        Assert.Throws<MetalException>(() => runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)])));
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.Contains("MTLCommandQueue#2 addResidencySet: MTLResidencySet#1", fake.Log, StringComparer.Ordinal);
    }

    [Fact]
    public void Memory_that_outlives_its_runtime_is_not_taken_out_of_what_is_gone()
    {
        using var fake = new FakeMetal();
        var time = new ManualTime();
        MetalRuntime runtime = Runtime(time);
        DeviceMemory memory = runtime.Allocate(1024);
        runtime.KeepResident(memory);
        runtime.Dispose();
        fake.Take();
        time.Advance(seconds: 5);
        time.RingLate();
        memory.Dispose();
        Assert.Empty(fake.Take());
    }

    private static MetalRuntime Runtime(TimeProvider time) => new(NativeObject.Own(Native.CreateSystemDefaultDevice(), "the device"), FakeMetal.Compose, time);

    /// <summary>Time that passes when the test says so; its timers ring on the test's thread.</summary>
    private sealed class ManualTime : TimeProvider
    {
        private readonly List<Alarm> _alarms = [];
        private TimeSpan _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now.Ticks;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var alarm = new Alarm(this, callback, state);
            alarm.Change(dueTime, period);
            _alarms.Add(alarm);
            return alarm;
        }

        public void Advance(double seconds)
        {
            TimeSpan end = _now + TimeSpan.FromSeconds(seconds);
            while (_alarms.Where(alarm => alarm.Due <= end).MinBy(static alarm => alarm.Due) is { } next)
            {
                _now = next.Due!.Value;
                next.Ring();
            }

            _now = end;
        }

        /// <summary>What a timer may do that was disposed while its callback was about to begin.</summary>
        public void RingLate()
        {
            foreach (Alarm alarm in _alarms) alarm.Ring();
        }

        private sealed class Alarm(ManualTime time, TimerCallback callback, object? state) : ITimer
        {
            private TimeSpan _period;

            public TimeSpan? Due { get; private set; }

            public bool Change(TimeSpan dueTime, TimeSpan period)
            {
                Due = dueTime == Timeout.InfiniteTimeSpan ? null : time._now + dueTime;
                _period = period;
                return true;
            }

            public void Ring()
            {
                Due += _period;
                callback(state);
            }

            public void Dispose() => Due = null;

            public ValueTask DisposeAsync()
            {
                Dispose();
                return default;
            }
        }
    }
}
