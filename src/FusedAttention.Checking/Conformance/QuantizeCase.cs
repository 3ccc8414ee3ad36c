using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;

namespace FusedAttention.Checking.Conformance;

/// <summary>
/// A case of the reference form that is no call: rows and the 8-bit codes that the law makes of them, <c>x [rows, heads, dim]</c>, <c>codes</c> of that shape and <c>scale [rows, heads]</c>, which is a result for int8 and given for E4M3. Codes and
/// scales must be equal bit for bit.
/// </summary>
public sealed class QuantizeCase
{
    private readonly string _name;
    private readonly LoadedTensor _rows;
    private readonly LoadedTensor _codes;
    private readonly LoadedTensor _scale;

    private QuantizeCase(string name, LoadedTensor rows, LoadedTensor codes, LoadedTensor scale)
    {
        (_name, _rows, _codes, _scale) = (name, rows, codes, scale);
        if (rows.Rank != 3 || !rows.Shape.AsSpan().SequenceEqual(codes.Shape.AsSpan()) || !rows.Shape.AsSpan()[..2].SequenceEqual(scale.Shape.AsSpan()))
            throw new NotReferenceFormException($"a quantize case has x and codes of one shape [rows, heads, dim] and scale [rows, heads], not {rows}, {codes}, {scale}");
        if (scale.ElementType != TensorElementType.Float32) throw new NotReferenceFormException($"{scale} is not of F32");
    }

    /// <summary>Reads a case; null for a file of another layout.</summary>
    /// <exception cref="NotReferenceFormException">It is one, but not of the form.</exception>
    /// <exception cref="TensorFileException">The file is damaged.</exception>
    public static QuantizeCase? TryLoad(string path)
    {
        using var file = new SafeTensorsFile(path);
        if (file.Metadata.GetValueOrDefault("layout") is not "quantize") return null;
        TensorElementType type = ReferenceCase.TypeOf(file.Metadata.GetValueOrDefault("dtype", ""));
        TensorElementType codeType = ReferenceCase.KeyValueTypeOf(file.Metadata, type);
        foreach (string name in (ReadOnlySpan<string>)["x", "codes", "scale"])
        {
            if (!file.Contains(name)) throw new NotReferenceFormException($"there is no tensor '{name}'");
        }

        (LoadedTensor rows, LoadedTensor codes, LoadedTensor scale) = (file.Read("x"), file.Read("codes"), file.Read("scale"));
        if (rows.ElementType != type || codes.ElementType != codeType || !codeType.IsEightBit()) throw new NotReferenceFormException($"{rows} and {codes} are not of {type.SafeTensorsName()} and {codeType.SafeTensorsName()}");
        return new(Path.GetFileNameWithoutExtension(path), rows, codes, scale);
    }

    /// <summary>Quantizes the rows and compares.</summary>
    public CaseOutcome Run() => _rows.ElementType switch
    {
        TensorElementType.Float32 => Run<float>(),
        TensorElementType.Float16 => Run<Half>(),
        _ => Run<BFloat16>(),
    };

    private CaseOutcome Run<T>()
        where T : unmanaged
    {
        ReadOnlySpan<T> rows = _rows.Elements<T>();
        int dim = (int)_rows.Shape[2];
        float[] scales = _scale.Elements<float>().ToArray();
        double[] codes = new double[rows.Length];
        if (_codes.ElementType == TensorElementType.Int8)
        {
            sbyte[] actual = new sbyte[rows.Length];
            KeyValueQuantization.ToInt8(rows, dim, actual, scales);
            for (int i = 0; i < codes.Length; i++) codes[i] = actual[i];
        }
        else
        {
            Float8E4M3[] actual = new Float8E4M3[rows.Length];
            for (int r = 0; r < scales.Length; r++) KeyValueQuantization.ToFloat8(rows.Slice(r * dim, dim), scales[r], actual.AsSpan(r * dim, dim));
            for (int i = 0; i < codes.Length; i++) codes[i] = Bits(actual[i].ToBits());
        }

        // The bits themselves are compared, so that a zero's sign counts; scales too.
        double[] expected = new double[codes.Length];
        for (int i = 0; i < expected.Length; i++) expected[i] = _codes.ElementType == TensorElementType.Int8 ? (sbyte)_codes.Bytes[i] : Bits(_codes.Bytes[i]);
        ErrorSummary codeError = ErrorSummary.Compare(codes, expected, static _ => 0);
        ErrorSummary scaleError = ErrorSummary.Compare(
            Array.ConvertAll(scales, static x => (double)BitConverter.SingleToInt32Bits(x)), Array.ConvertAll(_scale.Elements<float>().ToArray(), static x => (double)BitConverter.SingleToInt32Bits(x)), static _ => 0);
        string? failure = !codeError.Passed ? $"code {codeError.WorstIndex} is {codes[codeError.WorstIndex]}, not {expected[codeError.WorstIndex]}"
            : !scaleError.Passed ? $"scale {scaleError.WorstIndex} is {scales[scaleError.WorstIndex]:r}, not {_scale.Elements<float>()[scaleError.WorstIndex]:r}"
            : null;
        return new(_name, "quantize", codeError, scaleError, null, failure);
    }

    /// <summary>The bits of an E4M3 code; the sign of a NaN does not count.</summary>
    private static int Bits(byte code) => (code & 0x7F) == 0x7F ? 0x7F : code;
}
