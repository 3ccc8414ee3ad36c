using FusedAttention.Devices;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.SelfTest;

/// <summary>
/// Asks a device how its simdgroup matrices lie in the lanes. Apple does not document it, and <c>prefill.metal</c> relies on it: a device that does it otherwise gets the other kernels.
/// </summary>
internal static unsafe class LaneMapTest
{
    private const int Lanes = 32;
    private const int Side = 8;
    private const int Elements = Side * Side;

    /// <summary>What each lane got by loading a matrix, by multiplying two, and by multiplying two that were placed by our map.</summary>
    private const int Sections = 3;

    public static KernelFunction Function { get; } = new(KernelFamily.LaneMap, "lane_map", [], []);

    /// <summary>Runs the test.</summary>
    /// <param name="runtime">The device.</param>
    /// <param name="submission">The number of the work.</param>
    /// <returns>Whether the device does as <c>lane_map.txt</c> says.</returns>
    /// <exception cref="MetalException">It could not be run.</exception>
    public static bool Run(IMetalRuntime runtime, out long submission)
    {
        using DeviceMemory left = runtime.Allocate(Elements * sizeof(float)), right = runtime.Allocate(Elements * sizeof(float));
        using DeviceMemory seen = runtime.Allocate(Sections * Elements * sizeof(float));

        // Small whole numbers: every product is exact in floats, whatever the order of the sums. Neither matrix is symmetric, and no two elements of the first are the same.
        Span<float> a = new((float*)left.Pointer, Elements), b = new((float*)right.Pointer, Elements);
        for (int i = 0; i < Elements; i++)
        {
            a[i] = i - 20;
            b[i] = (i * i % 13) - (i / Side);
        }

        Span<float> elements = new((float*)seen.Pointer, Sections * Elements);
        elements.Fill(float.NaN);
        submission = runtime.Submit(
        [
            new(
                Function, [new(0, left, 0, IsWritten: false), new(1, right, 0, IsWritten: false), new(2, seen, 0, IsWritten: true)],
                ParameterIndex: 3, [], new(1, 1, 1), new(Lanes, 1, 1)),
        ]);
        runtime.Wait(submission);

        int[] map = Map();
        for (int i = 0; i < Elements; i++)
        {
            int row = map[i] / Side, column = map[i] % Side;
            float product = 0;
            for (int k = 0; k < Side; k++) product += a[(row * Side) + k] * b[(k * Side) + column];
            if (elements[i] != a[map[i]] || elements[Elements + i] != product || elements[(2 * Elements) + i] != product) return false;
        }

        return true;
    }

    /// <summary>For element e of lane l, at <c>2 * l + e</c>, its place in the matrix: <c>row * 8 + column</c>.</summary>
    public static int[] Map()
    {
        int[] map = new int[Elements];
        foreach (string line in KernelSource.File("lane_map.txt").Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            // lane: row,column row,column
            if (line[0] == '#') continue;
            string[] parts = line.Split([':', ' '], StringSplitOptions.RemoveEmptyEntries);
            int lane = int.Parse(parts[0]);
            for (int e = 0; e < 2; e++)
            {
                string[] place = parts[1 + e].Split(',');
                map[(2 * lane) + e] = (int.Parse(place[0]) * Side) + int.Parse(place[1]);
            }
        }

        return map;
    }
}
