namespace FusedAttention.Cpu.Decode;

/// <summary>The two products of a decode tile, S = Q K^T and O += P V.</summary>
internal interface IDecodeProducts
{
    static abstract void Scores(in DecodePass pass);

    static abstract void Outputs(in DecodePass pass);
}
