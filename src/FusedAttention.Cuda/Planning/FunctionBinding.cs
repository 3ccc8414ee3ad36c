using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>What a call's functions have captured, on its way into the kernels' parameter: <see cref="FunctionBlock"/>.</summary>
internal static class FunctionBinding
{
    /// <summary>Writes the block.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="traits">What its kernels are specialised for.</param>
    /// <param name="tables">Where its tables lie on the device.</param>
    /// <param name="map">Where a prefill finds which tiles the mask function has it see; anything where nobody asks.</param>
    /// <param name="parameters">The kernels' parameter.</param>
    public static void Write(AttentionProblem problem, in KernelTraits traits, ReadOnlySpan<ulong> tables, in TileMap map, Span<byte> parameters)
    {
        Span<byte> block = parameters.Slice(FunctionBlock.Offset, FunctionBlock.BytesOf(traits));
        Span<FunctionTable> entries = MemoryMarshal.Cast<byte, FunctionTable>(block)[..tables.Length];
        for (int i = 0; i < entries.Length; i++)
        {
            ScoreTable table = FunctionCaptures.TableAt(problem, i);
            entries[i] = new() { Address = tables[i], Rows = table.Rows, Columns = table.Columns };
        }

        FunctionCaptures.WriteParameters(problem, MemoryMarshal.Cast<byte, float>(block[FunctionBlock.ParametersBehind(traits)..FunctionBlock.MapBehind(traits)]));
        if (traits.Keep is not null) MemoryMarshal.Write(block[FunctionBlock.MapBehind(traits)..], map);
    }
}
