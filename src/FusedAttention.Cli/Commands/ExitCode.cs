namespace FusedAttention.Cli.Commands;

/// <summary>What the process returns.</summary>
internal static class ExitCode
{
    public const int Success = 0;

    /// <summary>The work was done and a result was beyond its limit.</summary>
    public const int VerificationFailed = 1;

    /// <summary>The work could not be done: options, files or machine.</summary>
    public const int BadInput = 2;

    /// <summary>128 + SIGINT, as shells have it.</summary>
    public const int Cancelled = 130;
}
