using System.Diagnostics.Metrics;
using System.Diagnostics.Tracing;
using FusedAttention.Diagnostics;
using Xunit;

namespace FusedAttention.Tests.Diagnostics;

/// <summary>Each listens to a backend of its own name; without company, as one asks that nobody else listens.</summary>
[Collection(AloneDefinition.Name)]
public sealed class AttentionTelemetryTests
{
    private readonly record struct Measurement(string Instrument, double Value, string Tags);

    [Fact]
    public void A_meter_listener_sees_calls_duration_and_operations()
    {
        var call = new CallDescription("meter-test", "prefill", Queries: 5, Keys: 7, Heads: 3, Dim: 64, FloatingPointOperations: 12_345);
        var seen = new List<Measurement>();
        using (Listen("meter-test", seen))
        {
            Assert.True(AttentionTelemetry.IsEnabled);
            Assert.True(AttentionTelemetry.CountsFloatingPointOperations);
            CallTimer timer = AttentionTelemetry.Start(in call);
            Thread.Sleep(20);
            AttentionTelemetry.Stop(in timer, in call);
        }

        Assert.Equal(["fusedattention.calls", "fusedattention.duration", "fusedattention.flops"], [.. seen.Select(m => m.Instrument)]);
        Assert.All(seen, m => Assert.Equal("backend=meter-test kernel=prefill", m.Tags));
        Assert.Equal(1, seen[0].Value);
        Assert.InRange(seen[1].Value, 0.019, 10);
        Assert.Equal(12_345, seen[2].Value);
    }

    [Fact]
    public void A_failed_call_has_the_type_of_its_error_and_no_operations()
    {
        var call = new CallDescription("error-test", "decode", 1, 2, 3, 4, 5);
        var seen = new List<Measurement>();
        using (Listen("error-test", seen))
        {
            CallTimer timer = AttentionTelemetry.Start(in call);
            AttentionTelemetry.Stop(in timer, in call, new OperationCanceledException());
        }

        Assert.Equal(["fusedattention.calls", "fusedattention.duration"], [.. seen.Select(m => m.Instrument)]);
        Assert.All(seen, m => Assert.Equal("backend=error-test kernel=decode error.type=System.OperationCanceledException", m.Tags));
    }

    [Fact]
    public void The_cache_gauges_read_the_census()
    {
        AttentionTelemetry.Publish();
        var seen = new Dictionary<string, long>(StringComparer.Ordinal);
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Name.StartsWith("fusedattention.cache.", StringComparison.Ordinal) && instrument is ObservableUpDownCounter<long>) self.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, _, _) => seen[instrument.Name] = value);
        listener.Start();
        listener.RecordObservableInstruments();
        Assert.Equal(["fusedattention.cache.blocks.total", "fusedattention.cache.blocks.used"], seen.Keys.Order(StringComparer.Ordinal).ToArray());
        Assert.All(seen.Values, value => Assert.True(value >= 0));
        Assert.True(CacheCensus.UsedBlocks <= CacheCensus.TotalBlocks);
    }

    [Fact]
    public void An_event_listener_sees_start_and_stop_with_the_shape()
    {
        var call = new CallDescription("event-test", "prefill + decode", Queries: 1L << 33, Keys: 70, Heads: 9, Dim: 576, FloatingPointOperations: 2.5e12);
        using var listener = new RecordingEventListener("event-test");
        CallTimer timer = AttentionTelemetry.Start(in call);
        AttentionTelemetry.Stop(in timer, in call);
        timer = AttentionTelemetry.Start(in call);
        AttentionTelemetry.Stop(in timer, in call, new InvalidOperationException());
        listener.Dispose();

        Assert.Equal(["CallStart", "CallStop", "CallStart", "CallStop"], [.. listener.Events.Select(e => e.Name)]);
        Assert.Equal(["event-test", "prefill + decode", 1L << 33, 70L, 9, 576], listener.Events[0].Payload);
        Assert.Equal(["event-test", "prefill + decode", 1L << 33, 70L, 9, 576], listener.Events[1].Payload[..6]);
        Assert.InRange(Assert.IsType<double>(listener.Events[1].Payload[6]), 0.0, 1e7);
        Assert.Equal([2.5e12, string.Empty], listener.Events[1].Payload[7..]);
        Assert.Equal("System.InvalidOperationException", listener.Events[3].Payload[8]);
    }

    [Fact]
    public void Nothing_is_measured_or_allocated_when_nobody_listens()
    {
        var call = new CallDescription("nobody", "decode", 1, 2, 3, 4, 5);
        Assert.False(AttentionTelemetry.IsEnabled);
        Assert.False(AttentionTelemetry.CountsFloatingPointOperations);
        Assert.Equal(default, AttentionTelemetry.Start(in call));
        Assert.Equal(0, LeastBytesAllocated(in call));
    }

    [Fact]
    public void A_call_that_was_not_described_is_not_observed()
    {
        using var listener = new RecordingEventListener("");
        Assert.True(AttentionTelemetry.IsEnabled);
        Assert.Equal(default, AttentionTelemetry.Start(default));
        AttentionTelemetry.Stop(default, default);
    }

    [Fact]
    public void A_meter_listener_costs_no_allocation_but_its_own()
    {
        var call = new CallDescription("allocation-test", "decode", 1, 2, 3, 4, 5);
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (IsOurs(instrument)) self.EnableMeasurementEvents(instrument);
        };
        int measured = 0;
        listener.SetMeasurementEventCallback<long>((_, _, _, _) => Interlocked.Increment(ref measured));
        listener.SetMeasurementEventCallback<double>((_, _, _, _) => Interlocked.Increment(ref measured));
        listener.Start();
        Assert.Equal(0, LeastBytesAllocated(in call));
        Assert.True(measured >= 3 * 100);
    }

    private static bool IsOurs(Instrument instrument) => string.Equals(instrument.Meter.Name, AttentionTelemetry.MeterName, StringComparison.Ordinal);

    private static long LeastBytesAllocated(in CallDescription call)
    {
        long least = long.MaxValue;
        for (int round = 0; round < 5 && least > 0; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 100; i++)
            {
                CallTimer timer = AttentionTelemetry.Start(in call);
                AttentionTelemetry.Stop(in timer, in call);
            }

            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return least;
    }

    private static MeterListener Listen(string backend, List<Measurement> seen)
    {
        var listener = new MeterListener
        {
            InstrumentPublished = (instrument, self) =>
            {
                if (IsOurs(instrument) && !instrument.IsObservable) self.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Add(instrument, value, tags));
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Add(instrument, value, tags));
        listener.Start();
        return listener;

        void Add(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            string text = string.Join(' ', tags.ToArray().Select(tag => $"{tag.Key}={tag.Value}"));
            if (!text.StartsWith($"backend={backend} ", StringComparison.Ordinal)) return;
            lock (seen) seen.Add(new(instrument.Name, value, text));
        }
    }

    private sealed class RecordingEventListener(string backend) : EventListener
    {
        private readonly List<(string Name, object?[] Payload)> _events = [];

        public List<(string Name, object?[] Payload)> Events
        {
            get
            {
                lock (_events) return [.. _events];
            }
        }

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource is AttentionEventSource) EnableEvents(eventSource, EventLevel.Informational, AttentionEventSource.Keywords.Calls);
        }

        protected override void OnEventWritten(EventWrittenEventArgs eventData)
        {
            if (eventData.Payload is not { Count: > 0 } payload || !Equals(payload[0], backend)) return;
            lock (_events) _events.Add((eventData.EventName ?? "", [.. payload]));
        }
    }
}
