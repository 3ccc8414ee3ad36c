using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Checks;
using FusedAttention.Checking.Problems;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.SelfTest;

namespace FusedAttention.Cli.Backends.Metal;

/// <summary>
/// Where the elements of simdgroup matrices lie. The library asks a device yes or no; this says, for every lane that differs from <c>lane_map.txt</c>, what it holds instead.
/// </summary>
internal sealed record LaneMapCheck(MetalDevice Device) : Check("simdgroup matrices", "which lane holds which elements")
{
    private const int Side = 8, Elements = 64, Lanes = 32;

    protected override CheckOutcome RunCore(Backend backend, RunOptions run, Action<string> onKernel)
    {
        onKernel("lane map");
        string[] differences = Differences(Seen(), LaneMapTest.Map());
        return new("lane map", Failure: differences.Length == 0 ? null : $"prefill is not used on this device\n{string.Join('\n', differences)}");
    }

    /// <summary>What the lanes saw against a map; a line for every lane that differs.</summary>
    /// <param name="seen">As <c>lane_map.metal</c> writes it, from the factors of <see cref="Left"/> and <see cref="Right"/>.</param>
    /// <param name="map">For element e of lane l, at <c>2 * l + e</c>, its place in the matrix.</param>
    public static string[] Differences(ReadOnlySpan<float> seen, ReadOnlySpan<int> map)
    {
        var lines = new List<string>();
        for (int lane = 0; lane < Lanes; lane++)
        {
            int at = 2 * lane;
            (int first, int second) = (map[at], map[at + 1]);

            // The elements of the left factor are their own places, so a lane that loaded it says where it is.
            (string has, string expected) = ($"{Place(seen[at])} {Place(seen[at + 1])}", $"{Place(first)} {Place(second)}");
            bool product = seen[Elements + at] == Product(first) && seen[Elements + at + 1] == Product(second);
            bool placed = seen[(2 * Elements) + at] == Product(first) && seen[(2 * Elements) + at + 1] == Product(second);
            bool loaded = string.Equals(has, expected, StringComparison.Ordinal);
            if (loaded && product && placed) continue;
            lines.Add($"{lane}: {has}{(loaded ? "" : $" (expected {expected})")}{(product ? "" : ", product of loaded matrices elsewhere")}{(placed ? "" : ", product of matrices placed by our map wrong")}");
        }

        return [.. lines];
    }

    /// <summary>An element of the left factor.</summary>
    public static float Left(int place) => place;

    /// <summary>An element of the right factor: small whole numbers, so that sums are exact in any order, and not symmetric.</summary>
    public static float Right(int place) => (place * place % 13) - (place / Side);

    private float[] Seen()
    {
        using MetalTensor<float> left = Device.Allocate<float>(Elements), right = Device.Allocate<float>(Elements), seen = Device.Allocate<float>(3 * Elements);
        for (int i = 0; i < Elements; i++) (left.AsSpan()[i], right.AsSpan()[i]) = (Left(i), Right(i));
        seen.AsSpan().Fill(float.NaN);
        var launch = new KernelLaunch(
            LaneMapTest.Function,
            [new(0, left.Memory.Memory, 0, IsWritten: false), new(1, right.Memory.Memory, 0, IsWritten: false), new(2, seen.Memory.Memory, 0, IsWritten: true)],
            ParameterIndex: 3, [], new(1, 1, 1), new(Lanes, 1, 1));
        Device.Submit(launch, [new(left.Memory, false), new(right.Memory, false), new(seen.Memory, true)]);
        return seen.AsReadOnlySpan().ToArray();
    }

    private static string Place(float element) => element is >= 0 and < Elements && float.IsInteger(element) ? $"{(int)element / Side},{(int)element % Side}" : "?";

    private static float Product(int place)
    {
        float sum = 0;
        for (int k = 0; k < Side; k++) sum += Left((place / Side * Side) + k) * Right((k * Side) + (place % Side));
        return sum;
    }
}
