using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Ptx;
using Fields = FusedAttention.Cuda.Kernels.BlockFields<FusedAttention.Cuda.Kernels.TableBlock>;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Checks block tables that lie on the device, before the kernels that follow them: a launch of its own, so that those ask nothing. Every entry that the call needs is copied; one that no block has is
/// reported, and becomes block 0.
/// </summary>
internal static class TableKernel
{
    public const int Threads = 128;

    public static PtxKernel Write()
    {
        var k = new PtxKernel("check_tables", PtxTarget.Sm80, Threads, 1, CallBlock.MostParameterBytes);
        I32 sequence = k.BlockX().As("sequence"), blocks = k.Parameter<I32>(Fields.OffsetOf(ref Fields.Block.Blocks));
        I64 given = I64Of(k, ref Fields.Block.Ranges);
        var ranges = new Anywhere(I64.Select(given.Is(0), k.ParameterAddress() + TableBlock.RangesBehindBlock, given));
        Anywhere range = ranges + I64.Product(sequence, Unsafe.SizeOf<TableRange>());
        I64 shift = k.Load<I64>(range);
        I32[] entries = k.LoadVector<I32>(range + sizeof(long), 2);
        Global row = new Global(I64Of(k, ref Fields.Block.Tables)) + (sequence.Widen() * I64Of(k, ref Fields.Block.RowBytes));
        Global destination = new Global(I64Of(k, ref Fields.Block.Checked)) + (shift << 2);
        var fault = new Global(I64Of(k, ref Fields.Block.Fault));
        k.For("entry", entries[0] + k.ThreadIndex(), entries[1], Threads, entry =>
        {
            I32 id = k.Load<I32>(row + I64.Product(entry, sizeof(int))).As("id");
            Predicate isBlock = id.IsBelow(blocks);
            k.Store(destination + I64.Product(entry, sizeof(int)), I32.Select(isBlock, id, 0));
            k.If(!isBlock, () => k.StoreVector(fault, sequence, entry, id, blocks));
        });
        k.Exit();
        return k;
    }

    private static I64 I64Of<T>(PtxKernel k, ref T field) => k.Parameter<I64>(Fields.OffsetOf(ref field));
}
