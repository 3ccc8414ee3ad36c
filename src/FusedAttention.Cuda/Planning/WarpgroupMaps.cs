using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>Why a prefill does not go to warpgroups.</summary>
internal enum WarpgroupRefusal
{
    None,
    OtherDevice,
    OldDriver,
    NoTile,
    MaskAlone,
    Group,
    Strides,
}

/// <summary>A call's queries, keys and values as the copy unit is told of them, less their addresses: pure, and the same for any memory.</summary>
/// <param name="Query">Boxes are the heads of a key/value head by queries, which is how rows are counted.</param>
/// <param name="Key">Boxes are keys of one head.</param>
/// <param name="Value">Likewise.</param>
/// <param name="QueryAxis">Where sequences lie.</param>
/// <param name="KeyAxis">Where sequences lie; nothing with pages.</param>
/// <param name="ValueAxis">Where sequences lie; nothing with pages.</param>
/// <param name="Refusal">Not none: nothing else is there.</param>
internal readonly record struct WarpgroupMaps(
    TensorMapShape Query, TensorMapShape Key, TensorMapShape Value, TokenAxis QueryAxis, TokenAxis KeyAxis, TokenAxis ValueAxis, WarpgroupRefusal Refusal)
{
    private const int BytesOfElement = sizeof(ushort);

    /// <param name="problem">The call: of 16-bit elements, with strides and starts that are multiples of 8.</param>
    /// <param name="tile">The sizes of the kernel.</param>
    public static WarpgroupMaps Of(AttentionProblem problem, in WarpgroupTile tile)
    {
        if (problem.Group > tile.Rows) return Refused(WarpgroupRefusal.Group);
        bool isPaged = problem.BlockSize > 0;
        int boxRows = WarpgroupLoads.BoxRows(problem.BlockSize, tile.Keys);
        TokenAxis query = TokenAxis.Of(problem, CallTensor.Query, problem.QueryTokenStride);
        TokenAxis key = isPaged ? default : TokenAxis.Of(problem, CallTensor.Key, problem.KeyTokenStride), value = isPaged ? default : TokenAxis.Of(problem, CallTensor.Value, problem.ValueTokenStride);
        if (!query.IsThere || (!isPaged && !(key.IsThere && value.IsThere))) return Refused(WarpgroupRefusal.Strides);

        bool isBFloat16 = problem.QueryType == AttentionElementType.BFloat16;
        TensorMapShape queries = Map(
            isBFloat16, problem.KeyDim, problem.QueryHeads, problem.QueryHeadStride, query.Tokens, problem.QueryTokenStride, query.Batches, query.BatchStride, problem.Group, tile.Rows / problem.Group);
        TensorMapShape keys = isPaged
            ? Map(isBFloat16, problem.KeyDim, problem.BlockSize, problem.KeyTokenStride, problem.KeyValueHeads, problem.KeyHeadStride, 1, problem.KeyBlockStride, boxRows, 1)
            : Map(isBFloat16, problem.KeyDim, key.Tokens, problem.KeyTokenStride, problem.KeyValueHeads, problem.KeyHeadStride, key.Batches, key.BatchStride, boxRows, 1);
        TensorMapShape values = isPaged
            ? Map(isBFloat16, problem.ValueDim, problem.BlockSize, problem.ValueTokenStride, problem.KeyValueHeads, problem.ValueHeadStride, 1, problem.ValueBlockStride, boxRows, 1)
            : Map(isBFloat16, problem.ValueDim, value.Tokens, problem.ValueTokenStride, problem.KeyValueHeads, problem.ValueHeadStride, value.Batches, value.BatchStride, boxRows, 1);
        return IsMap(queries) && IsMap(keys) && IsMap(values) ? new(queries, keys, values, query, key, value, WarpgroupRefusal.None) : Refused(WarpgroupRefusal.Strides);
    }

    /// <summary>Rows of a full item: whole queries.</summary>
    public static int RowsOf(AttentionProblem problem, in WarpgroupTile tile) => tile.Rows / problem.Group * problem.Group;

    private static WarpgroupMaps Refused(WarpgroupRefusal refusal) => new() { Refusal = refusal };

    private static TensorMapShape Map(bool isBFloat16, int dim, long length1, long stride1, long length2, long stride2, long length3, long stride3, int box1, int box2) => new(
        0, isBFloat16, dim, length1, length2, length3, Bytes(length1, stride1), Bytes(length2, stride2), Bytes(length3, stride3), BoxedRows.BoxColumns, box1, box2);

    /// <summary>A dimension of length 1 has any stride, and 0 is not one that the copy unit takes.</summary>
    private static long Bytes(long length, long stride) => length == 1 && stride <= 0 ? TileTable.VectorBytes : stride * BytesOfElement;

    private static bool IsMap(in TensorMapShape map) =>
        IsDimension(map.Length1, map.Stride1) && IsDimension(map.Length2, map.Stride2) && IsDimension(map.Length3, map.Stride3) && map.Box1 <= TensorMapShape.MostBox && map.Box2 <= TensorMapShape.MostBox;

    private static bool IsDimension(long length, long stride) =>
        length is > 0 and <= int.MaxValue && stride is > 0 and < TensorMapShape.StrideLimit && stride % TileTable.VectorBytes == 0;
}
