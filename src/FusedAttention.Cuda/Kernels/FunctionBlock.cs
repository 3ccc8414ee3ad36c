using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using FusedAttention.Scores.Tracing;
using Fields = FusedAttention.Cuda.Kernels.BlockFields<FusedAttention.Cuda.Kernels.FunctionTable>;

namespace FusedAttention.Cuda.Kernels;

/// <summary>A table that a function looks up, on the device.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FunctionTable
{
    public ulong Address;
    public int Rows;
    public int Columns;
}

/// <summary>Which tiles of keys the items of a prefill see by a mask function: a byte a tile, row by row, as <see cref="TileMapKernel"/> leaves them.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TileMap
{
    /// <summary>Of the first row: an item has one, or one for each key/value head where the function asks for the head.</summary>
    public ulong Address;

    /// <summary>Bytes of a row: tiles of the longest sequence.</summary>
    public int Tiles;

    /// <summary>Blocks of threads that share a row between them.</summary>
    public int Blocks;
}

/// <summary>
/// What a call's functions have captured, in the kernels' parameter behind the <see cref="CallBlock"/>: tables, those of the score function first, and behind them the parameters in the same order. Places are constants, so
/// instructions take what is there from the constant cache as operands; nothing of it is in the kernels' text, so functions of one form share a kernel. With a mask function a <see cref="TileMap"/> ends it.
/// </summary>
internal static class FunctionBlock
{
    /// <summary>Where it begins.</summary>
    public static int Offset => CallReader.TablesBehindBlock;

    /// <summary>Its length, a multiple of 16.</summary>
    public static int BytesOf(in KernelTraits traits) => MapBehind(traits) + (traits.Keep is null ? 0 : Unsafe.SizeOf<TileMap>());

    /// <summary>Where in it the <see cref="TileMap"/> is.</summary>
    public static int MapBehind(in KernelTraits traits) => ParametersBehind(traits) + ((ParametersOf(traits.Score) + ParametersOf(traits.Keep) + 3) / 4 * 16);

    /// <summary>Where in it the parameters begin.</summary>
    public static int ParametersBehind(in KernelTraits traits) => (TablesOf(traits.Score) + TablesOf(traits.Keep)) * Unsafe.SizeOf<FunctionTable>();

    /// <summary>What the score function has captured.</summary>
    public static FunctionOperands OfScore(PtxKernel k, in KernelTraits traits) => new(k, traits.Score!, Offset, Offset + ParametersBehind(traits));

    /// <summary>What the mask function has captured.</summary>
    public static FunctionOperands OfMask(PtxKernel k, in KernelTraits traits) => new(
        k, traits.Keep!, Offset + (TablesOf(traits.Score) * Unsafe.SizeOf<FunctionTable>()), Offset + ParametersBehind(traits) + (ParametersOf(traits.Score) * sizeof(float)));

    private static int TablesOf(ScoreForm? form) => form?.Tables ?? 0;

    private static int ParametersOf(ScoreForm? form) => form?.Parameters ?? 0;
}

/// <summary>What one function has captured, as a kernel reads it: each member writes a load of its own.</summary>
/// <param name="k">The kernel.</param>
/// <param name="form">The function.</param>
/// <param name="tables">Where its tables begin in the kernel's parameter.</param>
/// <param name="parameters">Where its parameters do.</param>
internal sealed class FunctionOperands(PtxKernel k, ScoreForm form, int tables, int parameters)
{
    public PtxKernel Kernel => k;

    public ScoreForm Form => form;

    public F32 Parameter(int slot) => k.Parameter<F32>(parameters + (slot * sizeof(float)));

    /// <summary>Where a table's entries begin.</summary>
    public Global Entries(int slot) => new(k.Parameter<I64>(PlaceOf(slot) + Fields.OffsetOf(ref Fields.Block.Address)));

    public I32 Rows(int slot) => k.Parameter<I32>(PlaceOf(slot) + Fields.OffsetOf(ref Fields.Block.Rows));

    public I32 Columns(int slot) => k.Parameter<I32>(PlaceOf(slot) + Fields.OffsetOf(ref Fields.Block.Columns));

    private int PlaceOf(int slot) => tables + (slot * Unsafe.SizeOf<FunctionTable>());
}
