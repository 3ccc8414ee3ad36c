using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Bits and bytes picked out of lanes, and instructions whose operands have different widths.</summary>
internal static unsafe class FieldOperations
{
    public static readonly Handler Logic3 = new(&RunLogic3), Permute = new(&RunPermute), Extract = new(&RunExtract), SignedExtract = new(&RunSignedExtract), Insert = new(&RunInsert);

    public static readonly Handler FunnelLeft = new(&RunFunnelLeft), FunnelRight = new(&RunFunnelRight), MultiplyAddWide = new(&RunMultiplyAddWide), SignedMultiplyAddWide = new(&RunSignedMultiplyAddWide);

    public static readonly Handler Pack = new(&RunPack), Unpack = new(&RunUnpack), PackHalves = new(&RunPackHalves), UnpackHalves = new(&RunUnpackHalves);

    /// <summary>Any function of three bits: bit (a, b, c) of the table in <see cref="Instruction.Number"/>.</summary>
    private static void RunLogic3(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B), c = warp.Row(i->C), d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            uint result = 0;
            for (int row = 0; row < 8; row++)
            {
                if ((i->Number >> row & 1) == 0) continue;
                result |= ((row & 4) != 0 ? a[lane] : ~a[lane]) & ((row & 2) != 0 ? b[lane] : ~b[lane]) & ((row & 1) != 0 ? c[lane] : ~c[lane]);
            }

            d[lane] = result;
        }
    }

    /// <summary>Four bytes out of eight, a then b; bit 3 of a selector spreads the sign of its byte.</summary>
    private static void RunPermute(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B), c = warp.Row(i->C), d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            ulong bytes = ((ulong)b[lane] << 32) | a[lane];
            uint result = 0;
            for (int n = 0; n < 4; n++)
            {
                uint selector = c[lane] >> (4 * n) & 0xF;
                uint chosen = (uint)(bytes >> (int)(8 * (selector & 7))) & 0xFF;
                if ((selector & 8) != 0) chosen = (chosen & 0x80) != 0 ? 0xFFu : 0;
                result |= chosen << (8 * n);
            }

            d[lane] = result;
        }
    }

    private static void RunExtract(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B), c = warp.Row(i->C), d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            int at = (int)(b[lane] & 0xFF), length = (int)(c[lane] & 0xFF);
            d[lane] = at > 31 || length == 0 ? 0 : length > 31 ? a[lane] >> at : a[lane] >> at & ((1u << length) - 1);
        }
    }

    /// <summary>With the sign of the field's highest bit, which is the register's where the field reaches over it.</summary>
    private static void RunSignedExtract(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B), c = warp.Row(i->C), d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            int at = (int)(b[lane] & 0xFF), length = (int)(c[lane] & 0xFF);
            if (length == 0)
            {
                d[lane] = 0;
                continue;
            }

            int signBit = Math.Min(at + length - 1, 31);
            bool isNegative = (a[lane] >> signBit & 1) != 0;
            uint field = at > 31 ? 0 : a[lane] >> at;
            int bits = Math.Max(0, signBit - at + 1);
            uint kept = bits >= 32 ? uint.MaxValue : (1u << bits) - 1;
            d[lane] = (field & kept) | (isNegative ? ~kept : 0);
        }
    }

    /// <summary>Puts a's low bits into b. Position and length are constants, in <see cref="Instruction.Number"/> and <see cref="Instruction.Count"/>.</summary>
    private static void RunInsert(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B), d = warp.Row(i->D);
        uint field = i->Count >= 32 ? uint.MaxValue : (1u << i->Count) - 1;
        uint kept = i->Number > 31 ? 0 : field << i->Number;
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = (b[lane] & ~kept) | (i->Number > 31 ? 0 : a[lane] << i->Number & kept);
    }

    /// <summary>The high word of (b, a) shifted left; Number is 1 where the distance is clamped to 32 instead of wrapped.</summary>
    private static void RunFunnelLeft(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B), c = warp.Row(i->C), d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            int by = i->Number == 1 ? (int)Math.Min(c[lane], 32) : (int)(c[lane] & 31);
            d[lane] = (uint)(((((ulong)b[lane] << 32) | a[lane]) << by) >> 32);
            if (by == 32) d[lane] = a[lane];
        }
    }

    private static void RunFunnelRight(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B), c = warp.Row(i->C), d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            int by = i->Number == 1 ? (int)Math.Min(c[lane], 32) : (int)(c[lane] & 31);
            d[lane] = (uint)((((ulong)b[lane] << 32) | a[lane]) >> by);
        }
    }

    private static void RunMultiplyAddWide(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B);
        ulong* c = warp.WideRow(i->C), d = warp.WideRow(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = ((ulong)a[lane] * b[lane]) + c[lane];
    }

    private static void RunSignedMultiplyAddWide(Warp warp, Instruction* i, uint mask)
    {
        int* a = (int*)warp.Row(i->A), b = (int*)warp.Row(i->B);
        long* c = (long*)warp.WideRow(i->C), d = (long*)warp.WideRow(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = ((long)a[lane] * b[lane]) + c[lane];
    }

    /// <summary>64 bits out of two words, the low one first.</summary>
    private static void RunPack(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B);
        ulong* d = warp.WideRow(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = ((ulong)b[lane] << 32) | a[lane];
    }

    /// <summary>Results are D and E; one may be missing.</summary>
    private static void RunUnpack(Warp warp, Instruction* i, uint mask)
    {
        ulong* a = warp.WideRow(i->A);
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            if (i->D >= 0) warp.Row(i->D)[lane] = (uint)a[lane];
            if (i->E >= 0) warp.Row(i->E)[lane] = (uint)(a[lane] >> 32);
        }
    }

    private static void RunPackHalves(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A), b = warp.Row(i->B), d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = (b[lane] << 16) | (a[lane] & 0xFFFF);
    }

    private static void RunUnpackHalves(Warp warp, Instruction* i, uint mask)
    {
        uint* a = warp.Row(i->A);
        for (int lane = 0; lane < Lanes.Count; lane++)
        {
            if ((mask >> lane & 1) == 0) continue;
            uint value = a[lane];
            if (i->D >= 0) warp.Row(i->D)[lane] = value & 0xFFFF;
            if (i->E >= 0) warp.Row(i->E)[lane] = value >> 16;
        }
    }
}
