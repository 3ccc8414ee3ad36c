using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace FusedAttention.Samples.Server.Engine;

/// <summary>Healthy while the model's thread runs: what a load balancer asks.</summary>
internal sealed class EngineHealth(ModelEngine engine, IHostApplicationLifetime lifetime) : IHealthCheck
{
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        if (!engine.IsAlive) return Task.FromResult(HealthCheckResult.Unhealthy("The model's thread has ended."));
        return Task.FromResult(lifetime.ApplicationStopping.IsCancellationRequested ? HealthCheckResult.Unhealthy("The server stops.") : HealthCheckResult.Healthy());
    }
}
