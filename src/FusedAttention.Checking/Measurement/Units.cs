namespace FusedAttention.Checking.Measurement;

/// <summary>Quantities as reports print them.</summary>
public static class Units
{
    public static string Megabytes(double bytes) => $"{bytes / 1e6:0.###} MB";
}
