using FusedAttention.Samples.TextGeneration.Loading;

namespace FusedAttention.Samples.Server;

/// <summary>What is served, and out of how much. Each can be given on the command line: <c>--Server:Blocks=2000</c>.</summary>
internal sealed class ServerOptions
{
    public const string Section = "Server";

    /// <summary>A model file, or "stories260K".</summary>
    public string Model { get; set; } = ModelFolder.DefaultModel;

    /// <summary>Blocks of the cache; 4,096 blocks of 16 tokens are 65,536 tokens.</summary>
    public int Blocks { get; set; } = 4096;

    public int BlockSize { get; set; } = 16;

    /// <summary>What keys and values are in the cache: fp32, fp16, int8, fp8 or q8_0.</summary>
    public string Cache { get; set; } = "fp32";

    /// <summary>Where the cache is and attention runs: cpu, or cuda (an NVIDIA GPU), whose caches are of any type but q8_0.</summary>
    public string Backend { get; set; } = "cpu";

    public int MaxTokensPerStep { get; set; } = 512;

    public int MaxRunningRequests { get; set; } = 256;

    /// <summary>Requests beyond these are answered with 429.</summary>
    public int MaxWaitingRequests { get; set; } = 1024;

    /// <summary>How long a request may take.</summary>
    public TimeSpan TimeLimit { get; set; } = TimeSpan.FromMinutes(10);

    /// <summary>How long those that run may go on when the server is stopped.</summary>
    public TimeSpan ShutdownLimit { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>Threads of the model; -1 for one a processor.</summary>
    public int Threads { get; set; } = -1;
}
