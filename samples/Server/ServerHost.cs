using FusedAttention.Samples.Server.Api;
using FusedAttention.Samples.Server.Diagnostics;
using FusedAttention.Samples.Server.Engine;
using Microsoft.Extensions.Options;

namespace FusedAttention.Samples.Server;

/// <summary>Puts the parts together.</summary>
internal static class ServerHost
{
    /// <summary>A server that is not started yet.</summary>
    /// <param name="arguments">Those of the command line.</param>
    public static WebApplication Create(string[] arguments)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(arguments);
        builder.Services.Configure<ServerOptions>(builder.Configuration.GetSection(ServerOptions.Section));
        builder.Services.ConfigureHttpJsonOptions(static options => options.SerializerOptions.TypeInfoResolverChain.Insert(0, ApiJson.Default));
        builder.Services.AddSingleton<ServerMetrics>();
        builder.Services.AddSingleton<PrometheusText>();
        builder.Services.AddSingleton<ModelEngine>();
        builder.Services.AddHostedService(static services => services.GetRequiredService<ModelEngine>());
        builder.Services.AddHealthChecks().AddCheck<EngineHealth>("engine");

        // Connections are drained first, and only then the engine is stopped: its texts are what they wait for.
        builder.Services.AddOptions<HostOptions>().Configure<IOptions<ServerOptions>>(static (host, server) => host.ShutdownTimeout = server.Value.ShutdownLimit);

        WebApplication app = builder.Build();
        app.Services.GetRequiredService<PrometheusText>(); // listens from the beginning
        app.MapCompletions();
        app.MapHealthChecks("/health");
        app.MapGet("/metrics", static (PrometheusText metrics) => Results.Text(metrics.Write(), "text/plain; version=0.0.4"));
        app.Lifetime.ApplicationStopping.Register(app.Services.GetRequiredService<ModelEngine>().StopAccepting);
        return app;
    }
}
