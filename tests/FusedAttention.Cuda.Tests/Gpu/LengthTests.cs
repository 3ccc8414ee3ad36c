using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Lengths of queries and keys at the edges of every tile, in one packed call for each kernel and set of dimensions: none, 1, one less than a tile, a tile, one more.</summary>
public abstract class LengthTests
{
    private protected LengthTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    private static readonly (AttentionElementType Type, int KeyDim, int ValueDim)[] Shapes =
    [
        (AttentionElementType.Float16, 16, 16), (AttentionElementType.Float16, 40, 40), (AttentionElementType.Float16, 64, 64), (AttentionElementType.Float16, 72, 72),
        (AttentionElementType.Float16, 80, 80), (AttentionElementType.Float16, 96, 96), (AttentionElementType.Float16, 128, 128), (AttentionElementType.Float16, 192, 128),
        (AttentionElementType.Float16, 256, 256), (AttentionElementType.Float16, 96, 192), (AttentionElementType.BFloat16, 256, 160),
        (AttentionElementType.BFloat16, 128, 128), (AttentionElementType.Float32, 64, 64), (AttentionElementType.Float32, 576, 512),
    ];

    [Theory]
    [InlineData("full")]
    [InlineData("causal")]
    [InlineData("top left")]
    [InlineData("window")]
    public void Every_length_at_an_edge_of_a_tile_is_right(string mask) => Problems.ForEach(Enumerable.Range(0, Shapes.Length * 8), (number, stream) =>
    {
        (AttentionElementType type, int keyDim, int valueDim) = Shapes[number / 8];
        AttentionKernel? forced = ((AttentionKernel?[])[null, .. GpuProblems.Kernels])[number / 2 % 4];
        int heads = number % 2 == 0 ? 1 : 3;
        PrefillTile? prefill = TileTable.Prefill(keyDim, valueDim, stream.Device.Description, CallFeatures.None);
        DecodeTile? decode = TileTable.Decode(keyDim, valueDim, stream.Device.Description);
        int[] queryEdges = Edges(forced switch { AttentionKernel.Decode => DecodeTile.Rows, AttentionKernel.Plain => TileTable.PlainItemRows, _ => prefill?.Rows ?? 0 }, heads);
        int[] keyEdges = forced switch
        {
            AttentionKernel.Decode => [.. Edges(decode?.Keys ?? 0, 1), .. Edges((decode?.Keys * decode?.Warps) ?? 0, 1)[2..]],
            AttentionKernel.Plain => Edges(32, 1),
            _ => Edges(prefill?.Keys ?? 0, 1),
        };
        (int Queries, int Keys)[] lengths = [.. queryEdges.SelectMany(q => keyEdges.Select(k => (q, k)))];
        Problem problem = new ProblemGenerator(keyDim + heads).Fill(new Problem
        {
            Name = $"edges, {mask}",
            Form = CallForm.Packed,
            QueryType = type,
            KeyValueType = type,
            Heads = heads,
            KeyValueHeads = 1,
            KeyDim = keyDim,
            ValueDim = valueDim,
            QueryLengths = [.. lengths.Select(static length => length.Queries)],
            KeyLengths = [.. lengths.Select(static length => length.Keys)],
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions
            {
                Mask = mask switch { "full" => AttentionMask.Full, "window" => AttentionMask.Window(9, 5), _ => AttentionMask.Causal },
                Alignment = mask is "top left" ? AttentionAlignment.TopLeft : AttentionAlignment.BottomRight,
            },
        });
        using var caller = new GpuCaller(stream.Device, forced, stream);
        if (GpuProblems.TryRun(problem, null, caller) is { } result) GpuProblems.AssertClose(result, problem, RowByRow.Solve(problem), forced);
    });

    /// <summary>0, 1, and around a tile; where several heads share a row of the tile, around that many queries. Without a tile, around 32.</summary>
    private static int[] Edges(int tile, int heads)
    {
        if (tile == 0) tile = 32;
        int whole = Math.Max(2, tile / heads);
        return [.. ((int[])[0, 1, whole - 1, whole, whole + 1, (2 * whole) + 1]).Distinct()];
    }
}
