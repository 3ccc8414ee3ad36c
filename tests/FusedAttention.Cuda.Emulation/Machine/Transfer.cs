using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Bytes that the copy engine moves between device and shared memory, in chunks of 16.</summary>
/// <param name="shared">Where they lie in shared memory.</param>
/// <param name="bytes">How many.</param>
internal abstract unsafe class Transfer(uint shared, int bytes)
{
    public uint Shared { get; } = shared;

    public int Bytes { get; } = bytes;

    /// <summary>Where a chunk lies in shared memory.</summary>
    public abstract uint SharedAt(int at);

    /// <summary>Reads a chunk from device memory.</summary>
    public abstract void Read(Warp warp, Instruction* i, int lane, int at, byte* chunk);

    /// <summary>Writes a chunk to device memory.</summary>
    public abstract void Write(Warp warp, Instruction* i, int lane, int at, byte* chunk);
}

/// <summary>A run of bytes.</summary>
/// <param name="shared">In shared memory.</param>
/// <param name="bytes">A multiple of 16.</param>
/// <param name="device">In device memory.</param>
internal sealed unsafe class RunTransfer(uint shared, int bytes, ulong device) : Transfer(shared, bytes)
{
    public override uint SharedAt(int at) => Shared + (uint)at;

    public override void Read(Warp warp, Instruction* i, int lane, int at, byte* chunk) => Buffer.MemoryCopy(warp.GlobalRead(i, lane, device + (ulong)at, 16, 16), chunk, 16, 16);

    public override void Write(Warp warp, Instruction* i, int lane, int at, byte* chunk) => Buffer.MemoryCopy(chunk, warp.GlobalWrite(i, lane, device + (ulong)at, 16), 16, 16);
}

/// <summary>A box of a tensor. Elements outside of the tensor are zero when they are read, and are not written.</summary>
/// <param name="shared">In shared memory.</param>
/// <param name="map">The tensor.</param>
/// <param name="start">Where the box begins, in elements, innermost dimension first.</param>
internal sealed unsafe class BoxTransfer(uint shared, TensorMapImage map, int[] start) : Transfer(shared, map.BoxBytes)
{
    public override uint SharedAt(int at) => TensorMapImage.Swizzled(map.Swizzle, Shared + (uint)at);

    public override void Read(Warp warp, Instruction* i, int lane, int at, byte* chunk)
    {
        int elements = 16 / map.ElementBytes;
        int inside = Inside(at, elements, out ulong address);
        new Span<byte>(chunk, 16).Clear();
        if (inside == elements)
        {
            Buffer.MemoryCopy(warp.GlobalRead(i, lane, address, 16, map.ElementBytes), chunk, 16, 16);
            return;
        }

        for (int e = 0; e < elements; e++)
            if (Inside(at + (e * map.ElementBytes), 1, out ulong one) == 1) Buffer.MemoryCopy(warp.GlobalRead(i, lane, one, map.ElementBytes, map.ElementBytes), chunk + (e * map.ElementBytes), map.ElementBytes, map.ElementBytes);
    }

    public override void Write(Warp warp, Instruction* i, int lane, int at, byte* chunk)
    {
        for (int e = 0; e < 16; e += map.ElementBytes)
            if (Inside(at + e, 1, out ulong one) == 1) Buffer.MemoryCopy(chunk + e, warp.GlobalWrite(i, lane, one, map.ElementBytes), map.ElementBytes, map.ElementBytes);
    }

    /// <summary>How many of some elements side by side are inside of the tensor, and where the first one lies.</summary>
    private int Inside(int at, int elements, out ulong address)
    {
        int index = at / map.ElementBytes;
        address = map.Address;
        int inside = elements;
        for (int d = 0; d < map.Rank; d++)
        {
            long place = start[d] + (index % map.Box[d]);
            index /= map.Box[d];
            if (d == 0) inside = (int)Math.Clamp(map.Lengths[0] - place, 0, elements);
            if (place < 0 || place >= map.Lengths[d]) return 0;
            address += (ulong)(place * (d == 0 ? map.ElementBytes : map.Strides[d]));
        }

        return inside;
    }
}
