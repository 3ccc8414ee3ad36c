using System.Runtime.CompilerServices;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Prefill;

/// <summary>
/// A tile of keys and values to the form that register tiles read. Packing also undoes strides: rows a power of two apart, as heads of 128 usually are, would fall on
/// the same few cache sets.
/// </summary>
internal static unsafe class KeyValuePacking<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    private static int PanelWidth => 2 * TS.Width;

    /// <summary>Packs keys [start, stop) of a tile and their values; addresses are those of head 0, at the key's place in the tile. With machine code for binary16, if <paramref name="narrow"/> has it for the dimensions.</summary>
    /// <returns>Whether a key, hidden ones included, is so large that dot products may leave <see cref="FloatRange"/>.</returns>
    public static bool Pack(AttentionProblem problem, int head, int start, int stop, nint* keyRows, nint* valueRows, float* key, float* value, float* temporary, NarrowKernels? narrow) => problem.KeyValueType switch
    {
        AttentionElementType.Float32 => Pack<Float32Element>(problem, head, start, stop, keyRows, valueRows, key, value, temporary),
        AttentionElementType.Float16 => Pack<Float16Element>(problem, head, start, stop, keyRows, valueRows, key, value, temporary, narrow),
        AttentionElementType.BFloat16 => Pack<BFloat16Element>(problem, head, start, stop, keyRows, valueRows, key, value, temporary),
        AttentionElementType.Int8 => Pack<Int8Element>(problem, head, start, stop, keyRows, valueRows, key, value, temporary),
        AttentionElementType.Float8E4M3 => Pack<Float8E4M3Element>(problem, head, start, stop, keyRows, valueRows, key, value, temporary),
        AttentionElementType.Q8Block => Pack<Q8BlockElement>(problem, head, start, stop, keyRows, valueRows, key, value, temporary),
        _ => throw ElementTypes.Unknown(problem.KeyValueType),
    };

    private static bool Pack<TE>(AttentionProblem problem, int head, int start, int stop, nint* keyRows, nint* valueRows, float* key, float* value, float* temporary, NarrowKernels? narrow = null)
        where TE : struct, IElement
    {
        bool large = false;
        nint widenKeys = narrow?.WidenKeys(problem.KeyDim) ?? 0;
        nint widenValues = narrow?.WidenValues(problem.ValueDim, PrefillTiles.Keys) ?? 0;
        for (int panel = start / PanelWidth; panel * PanelWidth < stop; panel++)
        {
            large |= PackKeyPanel<TE>(
                keyRows, Math.Max(start, panel * PanelWidth), Math.Min(stop, (panel + 1) * PanelWidth), panel * PanelWidth,
                (nint)(head * problem.KeyHeadStride * TE.Size), problem.KeyDim, key + ((nint)panel * PanelWidth * problem.KeyDim), temporary, widenKeys);
        }

        nint valueOffset = (nint)(head * problem.ValueHeadStride * TE.Size);
        if (widenValues != 0) Widen(widenValues, valueRows + start, valueRows + stop, valueOffset, value + ((nint)start * PanelWidth));
        else PackValues<TE>(valueRows, start, stop, valueOffset, problem.ValueDim, value, temporary);
        return large;
    }

    /// <summary>One panel of keys, transposed to [dim][2W]. Places without a key repeat a key that has one: their scores are excluded later.</summary>
    /// <returns>Whether an element may be beyond <see cref="FloatRange.LargestKey"/>.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    private static bool PackKeyPanel<TE>(nint* rows, int start, int stop, int panelStart, nint headOffset, int dim, float* panel, float* temporary, nint widen)
        where TE : struct, IElement
    {
        nint* source = stackalloc nint[PanelWidth];
        if (widen != 0) Widen(widen, rows + start, rows + stop, headOffset, temporary + ((nint)(start - panelStart) * dim));
        for (int i = 0; i < PanelWidth; i++)
        {
            int j = Math.Clamp(panelStart + i, start, stop - 1);
            nint row = rows[j] + headOffset;
            if (typeof(TE) == typeof(Float32Element))
            {
                source[i] = row;
                continue;
            }

            // Keys of 16 or 8 bits are widened to a small row-major block first, which stays in the first-level cache.
            float* widened = temporary + ((nint)i * dim);
            source[i] = (nint)widened;
            if (panelStart + i == j && widen == 0) RowConversion<TS, TV>.Widen<TE>((byte*)row, widened, dim);
            if (panelStart + i != j) source[i] = (nint)(temporary + ((nint)(j - panelStart) * dim));
        }

        // A place before the first key would name a row that is not widened yet; the loop above has it by now.
        int whole = dim / TS.TransposeSize * TS.TransposeSize;
        for (int i = 0; i < PanelWidth; i += TS.TransposeSize)
        {
            for (int d = 0; d < whole; d += TS.TransposeSize) TS.Transpose(source + i, d, panel + ((nint)d * PanelWidth) + i, PanelWidth);
        }

        for (int d = whole; d < dim; d++)
        {
            for (int i = 0; i < PanelWidth; i++) panel[((nint)d * PanelWidth) + i] = ((float*)source[i])[d];
        }

        // The panel has just been written and is in the first-level cache: one multiply-add for each vector of it, where every register tile of rows takes several.
        return TE.Largest > FloatRange.LargestKey && FloatChecks<TS, TV>.AnyAbove(FloatRange.LargestKey, panel, (nint)PanelWidth * dim);
    }

    /// <summary>Values as panels [dim / 2W][keys][2W]; columns beyond the dimension are zeros.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackValues<TE>(nint* rows, int start, int stop, nint headOffset, int dim, float* value, float* temporary)
        where TE : struct, IElement
    {
        for (int j = start; j < stop; j++)
        {
            byte* source = (byte*)(rows[j] + headOffset);
            float* destination = value + ((nint)j * PanelWidth);
            if (typeof(TE) != typeof(Q8BlockElement))
            {
                PackValue<TE>(source, dim, destination);
                continue;
            }

            RowConversion<TS, TV>.Widen<TE>(source, temporary, dim);
            PackValue<Float32Element>((byte*)temporary, dim, destination);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PackValue<TE>(byte* source, int dim, float* destination)
        where TE : struct, IElement
    {
        nint panelStride = (nint)PanelWidth * PrefillTiles.Keys;
        int whole = dim / PanelWidth;
        for (int panel = 0; panel < whole; panel++)
        {
            TS.Store(destination, TE.Load<TS, TV>(source, panel * PanelWidth));
            TS.Store(destination + TS.Width, TE.Load<TS, TV>(source, (panel * PanelWidth) + TS.Width));
            destination += panelStride;
        }

        if (whole * PanelWidth == dim) return;
        for (int i = 0; i < PanelWidth; i++)
        {
            int d = (whole * PanelWidth) + i;
            destination[i] = d < dim ? TE.LoadOne(source, d) : 0;
        }
    }

    /// <summary>Rows by a kernel of <see cref="NarrowKernels"/>.</summary>
    private static void Widen(nint kernel, nint* rows, nint* end, nint headOffset, float* destination)
    {
        var block = new HalfWideningBlock { Rows = rows, RowsEnd = end, Offset = headOffset, Destination = destination };
        ((delegate* unmanaged<HalfWideningBlock*, void>)kernel)(&block);
    }
}
