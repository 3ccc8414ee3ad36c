namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>What a call of <see cref="HalfWidening"/> is about: some rows.</summary>
internal unsafe struct HalfWideningBlock
{
    /// <summary>The addresses of the rows in head 0.</summary>
    public nint* Rows;
    public nint* RowsEnd;

    /// <summary>Bytes from head 0 to the head.</summary>
    public nint Offset;

    /// <summary>Where the first row goes.</summary>
    public float* Destination;
}

/// <summary>Rows of binary16 to floats, as panels of two vectors or one row behind the other: an instruction and a store a vector.</summary>
internal static unsafe class HalfWidening
{
    /// <param name="bits">Of a vector.</param>
    /// <param name="dim">Whole pairs of vectors.</param>
    /// <param name="rowStride">Floats from where a row goes to where the next one does.</param>
    /// <param name="panelStride">Floats from a pair of vectors to the next one of the same row.</param>
    /// <param name="convention">How it is called.</param>
    public static Assembler Emit(short bits, int dim, int rowStride, int panelStride, CallingConvention convention)
    {
        var k = new Assembler($"fp16 widening {bits} bits, dim {dim}, {rowStride} floats a row, {panelStride} a panel", convention);
        HalfWideningBlock fields;
        HalfWideningBlock* at = &fields;
        nint start = (nint)at;
        Mem end = At(&at->RowsEnd, nameof(HalfWideningBlock.RowsEnd)), offset = At(&at->Offset, nameof(HalfWideningBlock.Offset));
        Gpr row = k.Gpr("row"), source = k.Gpr("source"), destination = k.Gpr("destination");
        Vec[] floats = k.Vectors(bits, "x", 4);
        int lanes = bits / 32;

        k.Mov(row, At(&at->Rows, nameof(HalfWideningBlock.Rows)));
        k.Mov(destination, At(&at->Destination, nameof(HalfWideningBlock.Destination)));
        Label loop = new("row"), done = new("end");
        k.Cmp(row, end);
        k.Jae(done);
        k.Place(loop);
        k.Mov(source, row + 0);
        k.Add(source, offset);
        for (int i = 0; i < dim / lanes; i++)
        {
            Vec x = floats[i % floats.Length];
            k.Vcvtph2ps(x, source + (i * lanes * sizeof(ushort)));
            k.Vmovups(destination + (((i / 2 * panelStride) + (i % 2 * lanes)) * sizeof(float)), x);
        }

        k.Add(destination, rowStride * sizeof(float));
        k.Add(row, sizeof(nint));
        k.Cmp(row, end);
        k.Jb(loop);
        k.Place(done);
        k.Return();
        return k;

        Mem At(void* field, string name) => k.Field((int)((nint)field - start), name);
    }
}
