using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text;

namespace FusedAttention.Samples.Server.Diagnostics;

/// <summary>
/// The meters as text that Prometheus reads, at <c>/metrics</c>, without another package. Histograms are given by their sums and counts; an OpenTelemetry exporter would give buckets too.
/// </summary>
internal sealed class PrometheusText : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly ConcurrentDictionary<string, Series> _series = new(StringComparer.Ordinal);

    public PrometheusText(IMeterFactory factory)
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            // The library's meter is the process's; another server in it has its own factory.
            bool isOurs = instrument.Meter.Name is ServerMetrics.MeterName && instrument.Meter.Scope == factory;
            if (isOurs || instrument.Meter.Name is "FusedAttention") listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.Start();
    }

    public string Write()
    {
        _listener.RecordObservableInstruments();
        var text = new StringBuilder();
        foreach ((string name, Series series) in _series.OrderBy(static entry => entry.Key, StringComparer.Ordinal)) series.Write(name, text);
        return text.ToString();
    }

    public void Dispose() => _listener.Dispose();

    private void Record(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        var name = new StringBuilder(instrument.Name.Replace('.', '_'));
        for (int i = 0; i < tags.Length; i++)
            name.Append(i == 0 ? '{' : ',').Append(tags[i].Key.Replace('.', '_')).Append("=\"").Append(tags[i].Value).Append('"').Append(i == tags.Length - 1 ? "}" : "");
        _series.GetOrAdd(name.ToString(), static (_, instrument) => new(instrument), instrument).Add(value);
    }

    private sealed class Series(Instrument instrument)
    {
        private readonly Lock _gate = new();
        private readonly bool _isHistogram = instrument is Histogram<double>;
        private readonly bool _adds = instrument is Histogram<double> or Counter<long>;
        private double _sum;
        private long _count;

        public void Add(double value)
        {
            lock (_gate)
            {
                _sum = _adds ? _sum + value : value;
                _count++;
            }
        }

        public void Write(string name, StringBuilder text)
        {
            lock (_gate)
            {
                int tags = name.IndexOf('{', StringComparison.Ordinal);
                string bare = tags < 0 ? name : name[..tags], rest = tags < 0 ? "" : name[tags..];
                if (!_isHistogram)
                {
                    text.Append(CultureInfo.InvariantCulture, $"{bare}{rest} {_sum}\n");
                    return;
                }

                text.Append(CultureInfo.InvariantCulture, $"{bare}_sum{rest} {_sum}\n{bare}_count{rest} {_count}\n");
            }
        }
    }
}
