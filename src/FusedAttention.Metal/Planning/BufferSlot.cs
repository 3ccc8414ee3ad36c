using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Planning;

/// <summary>The buffer slots of the attention kernels: <c>[[buffer(n)]]</c> in their sources, and a test compares. One table for all families; a kernel takes those it needs.</summary>
internal static class BufferSlot
{
    public const int Query = 0;
    public const int Key = 1;
    public const int Value = 2;
    public const int Output = 3;
    public const int Sequences = 4;
    public const int Items = 5;
    public const int BlockTables = 6;
    public const int Mask = 7;
    public const int Bias = 8;
    public const int LogSumExp = 9;
    public const int AlibiSlopes = 10;
    public const int SinkLogits = 11;
    public const int PartialOutputs = 12;
    public const int PartialStatistics = 13;
    public const int Parameters = 14;

    /// <summary>The first table of the call's functions; the others follow.</summary>
    public const int FunctionTables = FunctionText.FirstTable;

    /// <summary>Of calls whose keys have codes, which have fewer tables: <see cref="MostTablesOfCodes"/>.</summary>
    public const int KeyScale = CodeText.FirstScaleSlot;
    public const int ValueScale = KeyScale + 1;

    /// <summary>Tables of functions that there are slots for in front of the scales.</summary>
    public const int MostTablesOfCodes = KeyScale - FunctionTables;
}
