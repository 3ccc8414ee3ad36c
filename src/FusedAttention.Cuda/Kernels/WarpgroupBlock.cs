using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>What the prefill of warpgroups reads beside its <see cref="CallBlock"/>, at the end of the same parameter: how the copy unit sees the tensors, and how work is handed out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct WarpgroupBlock
{
    /// <summary>Of the kernel's parameter. What aligns it to 64 counts among the bytes that the driver takes.</summary>
    public const int ParameterBytes = CallBlock.MostParameterBytes - 64;

    /// <summary>Of the kernel's parameter, where it may be long.</summary>
    public static int BytesOf(bool hasLongParameters) => hasLongParameters ? CallBlock.LongParameterBytes : ParameterBytes;

    /// <summary>From here on in the parameter. Maps lie at multiples of 64.</summary>
    public const int Offset = ParameterBytes - Bytes;

    /// <summary>Its room.</summary>
    public const int Bytes = 448;

    public TensorMap QueryMap;
    public TensorMap KeyMap;
    public TensorMap ValueMap;

    /// <summary>Two words, zero between launches: how many items were handed out, and how many blocks have found that there are none left.</summary>
    public ulong Scheduler;

    /// <summary>Items of the launch; each is worked on once for every key/value head.</summary>
    public int Items;

    /// <summary>Rows of a full item: a multiple of the group.</summary>
    public int QueryRows;

    /// <summary>1 where a sequence has its own place along the map's last dimension; 0 where all lie along its tokens.</summary>
    public int QueryBatches;

    /// <inheritdoc cref="QueryBatches"/>
    public int KeyBatches;

    /// <inheritdoc cref="QueryBatches"/>
    public int ValueBatches;

    /// <summary>Tokens of the values' map: rows behind them arrive as zeros.</summary>
    public int ValueTokens;
}

/// <summary>What the driver has encoded of a tensor.</summary>
[InlineArray(Bytes)]
internal struct TensorMap
{
    public const int Bytes = 128;

    private byte _first;
}
