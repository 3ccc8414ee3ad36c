using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Planning;

/// <summary>Why a prefill does not go to warpgroups, or a decode to boxes.</summary>
internal enum WarpgroupRefusal
{
    None,
    OtherDevice,
    OldDriver,
    NoTile,
    MaskAlone,
    Functions,
    Group,
    Strides,
    SmallBlocks,
    EightBits,
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
    /// <param name="problem">The call: of 16-bit elements, with strides and starts that are multiples of 8.</param>
    /// <param name="tile">The sizes of the kernel.</param>
    public static WarpgroupMaps Of(AttentionProblem problem, in WarpgroupTile tile)
    {
        if (problem.Group > tile.Rows) return Refused(WarpgroupRefusal.Group);
        int boxRows = TileBoxes.BoxRows(problem.BlockSize, tile.Keys);
        TokenAxis query = TokenAxis.Of(problem, CallTensor.Query, problem.QueryTokenStride);
        if (!query.IsThere || !OfKeysAndValues(problem, boxRows, out TensorMapShape keys, out TensorMapShape values, out TokenAxis key, out TokenAxis value)) return Refused(WarpgroupRefusal.Strides);
        TensorMapShape queries = Map(
            problem.QueryType, problem.KeyDim, problem.QueryHeads, problem.QueryHeadStride, query.Tokens, problem.QueryTokenStride, query.Batches, query.BatchStride, problem.Group, tile.Rows / problem.Group);
        return IsMap(queries) ? new(queries, keys, values, query, key, value, WarpgroupRefusal.None) : Refused(WarpgroupRefusal.Strides);
    }

    /// <summary>Keys and values alone. Of 8-bit ones two are an element of the map.</summary>
    /// <param name="problem">The call: with strides and starts that are multiples of 16 bytes.</param>
    /// <param name="boxRows">Keys of a box.</param>
    /// <param name="keys">Receives the keys' map.</param>
    /// <param name="values">Receives that of the values.</param>
    /// <param name="key">Receives where sequences lie; nothing with pages.</param>
    /// <param name="value">Likewise.</param>
    /// <returns>False: they do not lie as the copy unit can take them.</returns>
    public static bool OfKeysAndValues(AttentionProblem problem, int boxRows, out TensorMapShape keys, out TensorMapShape values, out TokenAxis key, out TokenAxis value)
    {
        bool isPaged = problem.BlockSize > 0;
        AttentionElementType type = problem.KeyValueType;
        (keys, values) = (default, default);
        key = isPaged ? default : TokenAxis.Of(problem, CallTensor.Key, problem.KeyTokenStride);
        value = isPaged ? default : TokenAxis.Of(problem, CallTensor.Value, problem.ValueTokenStride);
        if (!isPaged && !(key.IsThere && value.IsThere)) return false;
        keys = isPaged
            ? Map(type, problem.KeyDim, problem.BlockSize, problem.KeyTokenStride, problem.KeyValueHeads, problem.KeyHeadStride, 1, problem.KeyBlockStride, boxRows, 1)
            : Map(type, problem.KeyDim, key.Tokens, problem.KeyTokenStride, problem.KeyValueHeads, problem.KeyHeadStride, key.Batches, key.BatchStride, boxRows, 1);
        values = isPaged
            ? Map(type, problem.ValueDim, problem.BlockSize, problem.ValueTokenStride, problem.KeyValueHeads, problem.ValueHeadStride, 1, problem.ValueBlockStride, boxRows, 1)
            : Map(type, problem.ValueDim, value.Tokens, problem.ValueTokenStride, problem.KeyValueHeads, problem.ValueHeadStride, value.Batches, value.BatchStride, boxRows, 1);
        return IsMap(keys) && IsMap(values);
    }

    /// <summary>Rows of a full item: whole queries.</summary>
    public static int RowsOf(AttentionProblem problem, in WarpgroupTile tile) => tile.Rows / problem.Group * problem.Group;

    private static WarpgroupMaps Refused(WarpgroupRefusal refusal) => new() { Refusal = refusal };

    private static TensorMapShape Map(AttentionElementType type, int dim, long length1, long stride1, long length2, long stride2, long length3, long stride3, int box1, int box2) => new(
        0, type == AttentionElementType.BFloat16, dim * type.Size() / sizeof(ushort), length1, length2, length3,
        Bytes(type, length1, stride1), Bytes(type, length2, stride2), Bytes(type, length3, stride3), BoxedRows.BoxColumns, box1, box2);

    /// <summary>A dimension of length 1 has any stride, and the copy unit takes none that is no multiple of a vector, or 0.</summary>
    private static long Bytes(AttentionElementType type, long length, long stride)
    {
        long bytes = stride * type.Size();
        return length == 1 && (bytes <= 0 || bytes % TileTable.VectorBytes != 0) ? TileTable.VectorBytes : bytes;
    }

    private static bool IsMap(in TensorMapShape map) =>
        IsDimension(map.Length1, map.Stride1) && IsDimension(map.Length2, map.Stride2) && IsDimension(map.Length3, map.Stride3) && map.Box1 <= TensorMapShape.MostBox && map.Box2 <= TensorMapShape.MostBox;

    private static bool IsDimension(long length, long stride) =>
        length is > 0 and <= int.MaxValue && stride is > 0 and < TensorMapShape.StrideLimit && stride % TileTable.VectorBytes == 0;
}
