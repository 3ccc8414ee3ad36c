namespace FusedAttention.Checking.Measurement;

/// <summary>Quantities as reports print them.</summary>
public static class Units
{
    /// <summary>"0 GFLOP" says nothing of a small call.</summary>
    public static string Operations(double operations) => operations >= 1e6 ? $"{operations / 1e9:0.###} GFLOP" : $"{operations:0} FLOP";

    public static string Megabytes(double bytes) => $"{bytes / 1e6:0.###} MB";
}
