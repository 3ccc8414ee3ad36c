using System.Numerics.Tensors;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using Xunit;

namespace FusedAttention.Interop.Tests;

/// <summary>The example with OpenTelemetry of docs/interop.md.</summary>
public sealed class OpenTelemetryExamples
{
    [Fact]
    public void OpenTelemetryMeter()
    {
        var exported = new List<Metric>();
        Tensor<float> query = Tensor.CreateFromShape<float>([1, 8, 64]), key = Tensor.CreateFromShape<float>([10, 2, 64]), value = Tensor.CreateFromShape<float>([10, 2, 64]), output = Tensor.CreateFromShape<float>([1, 8, 64]);

        // README: OpenTelemetryMeter
        // Calls, their time and operations, and the blocks of caches; any exporter in place of this one.
        using MeterProvider metrics = Sdk.CreateMeterProviderBuilder().AddMeter("FusedAttention").AddInMemoryExporter(exported).Build();
        // README: end
        Attention.Forward(query, key, value, output);
        metrics.ForceFlush();
        string[] names = [.. exported.Select(static metric => metric.Name)];
        Assert.Contains(names, static name => name is "fusedattention.calls");
        Assert.Contains(names, static name => name is "fusedattention.duration");
    }
}
