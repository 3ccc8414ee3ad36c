using System.Collections.Concurrent;

namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>Entries of the kernels that decode keys and values of one call.</summary>
internal readonly struct DecodeCode
{
    /// <summary>Scores, asking for later keys.</summary>
    public nint ScoresThenKeys { get; init; }

    /// <summary>Scores, asking for values.</summary>
    public nint ScoresThenValues { get; init; }

    /// <summary>Sums, asking for later values.</summary>
    public nint SumsThenValues { get; init; }

    /// <summary>Sums, asking for keys of the next tile.</summary>
    public nint SumsThenKeys { get; init; }

    /// <summary>Whether none is missing.</summary>
    public bool IsWhole => ScoresThenKeys != 0 && ScoresThenValues != 0 && SumsThenValues != 0 && SumsThenKeys != 0;
}

/// <summary>The kernels for keys and values of 16 and 8 bits with vectors of one width: emitted when first asked for, one for each dimension, and kept.</summary>
internal sealed class NarrowKernels(CodeHost host, short bits)
{
    private const int CacheLine = 64;

    // Vectors of a row that are widened without a loop over them.
    private const int MaxVectors = 64;

    private readonly ConcurrentDictionary<Key, nint> _entries = new();
    private readonly Lock _gate = new();

    private enum Kind
    {
        Scores,
        Sums,
        CodeScores,
        CodeSums,
        Widening,
    }

    private int Lanes => bits / 32;

    private bool HasVnni => bits == 512 ? host.Features.HasAvx512Vnni : host.Features.HasAvxVnni;

    private DecodeElement Integers => HasVnni ? DecodeElement.Int8 : DecodeElement.Int8WithoutVnni;

    /// <summary>How the system lets code come into memory.</summary>
    public string HostState => host.State;

    /// <summary>The instruction that multiplies 16-bit integers.</summary>
    public string IntegerProduct => HasVnni ? "vpdpwssd" : "vpmaddwd";

    /// <summary>Whether decode kernels take a dimension: whole vectors, and for scores chains of at most 128 of them.</summary>
    public bool Decodes(int dim) => dim % Lanes == 0 && dim <= 128 * Lanes;

    /// <summary>Whether rows of a dimension are widened: whole pairs of vectors.</summary>
    public bool Widens(int dim) => dim % (2 * Lanes) == 0 && dim <= MaxVectors * Lanes;

    /// <summary>The kernels for 8-bit integers and grouped heads; false if the system has no memory for code. Dimensions are those that they take.</summary>
    public bool TryDecodeIntegers(int keyDim, int valueDim, int scoreStride, out DecodeCode code)
    {
        int keyLines = Lines(keyDim, sizeof(sbyte)), valueLines = Lines(valueDim, sizeof(sbyte));
        code = new()
        {
            ScoresThenKeys = Entry(new(Kind.CodeScores, keyDim, scoreStride, keyLines)),
            ScoresThenValues = Entry(new(Kind.CodeScores, keyDim, scoreStride, valueLines)),
            SumsThenValues = Entry(new(Kind.CodeSums, valueDim, scoreStride, valueLines)),
            SumsThenKeys = Entry(new(Kind.CodeSums, valueDim, scoreStride, keyLines)),
        };
        return code.IsWhole;
    }

    /// <summary>The kernels for binary16 and grouped heads; false if they do not take the dimensions, or the system has no memory for code.</summary>
    /// <param name="keyDim">Of keys.</param>
    /// <param name="valueDim">Of values.</param>
    /// <param name="scoreStride">Floats between two rows of scores.</param>
    /// <param name="code">Receives them.</param>
    public bool TryDecode(int keyDim, int valueDim, int scoreStride, out DecodeCode code)
    {
        code = default;
        if (!Decodes(keyDim) || !Decodes(valueDim)) return false;
        int keyLines = Lines(keyDim), valueLines = Lines(valueDim);
        code = new()
        {
            ScoresThenKeys = Entry(new(Kind.Scores, keyDim, scoreStride, keyLines)),
            ScoresThenValues = Entry(new(Kind.Scores, keyDim, scoreStride, valueLines)),
            SumsThenValues = Entry(new(Kind.Sums, valueDim, scoreStride, valueLines)),
            SumsThenKeys = Entry(new(Kind.Sums, valueDim, scoreStride, keyLines)),
        };
        return code.IsWhole;
    }

    /// <summary>The kernel that widens keys to rows of floats, one behind the other; 0 if it does not take the dimension, or the system has no memory for code.</summary>
    public nint WidenKeys(int dim) => Widens(dim) ? Entry(Keys(dim)) : 0;

    /// <summary>The same for values, as panels of two vectors a key and <paramref name="tileKeys"/> keys a panel.</summary>
    public nint WidenValues(int dim, int tileKeys) => Widens(dim) ? Entry(Values(dim, tileKeys)) : 0;

    /// <summary>The text of the kernels that decode, or of those that widen.</summary>
    public string Listing(bool decodes, int keyDim, int valueDim, int scoreStride, int tileKeys)
    {
        Key[] keys = decodes
            ? [new(Kind.Scores, keyDim, scoreStride, Lines(keyDim)), new(Kind.Sums, valueDim, scoreStride, Lines(valueDim))]
            : [.. Widens(keyDim) ? [Keys(keyDim)] : Array.Empty<Key>(), .. Widens(valueDim) ? [Values(valueDim, tileKeys)] : Array.Empty<Key>()];
        return string.Join('\n', keys.Select(key => MachineCode.Listing.Of(Emit(key))));
    }

    /// <summary>The text of the kernels that decode 8-bit integers.</summary>
    public string ListingOfIntegers(int keyDim, int valueDim, int scoreStride) => string.Join('\n', ((Key[])
        [new(Kind.CodeScores, keyDim, scoreStride, Lines(keyDim, sizeof(sbyte))), new(Kind.CodeSums, valueDim, scoreStride, Lines(valueDim, sizeof(sbyte)))]).Select(key => MachineCode.Listing.Of(Emit(key))));

    private Key Keys(int dim) => new(Kind.Widening, dim, dim, 2 * Lanes);

    private Key Values(int dim, int tileKeys) => new(Kind.Widening, dim, 2 * Lanes, 2 * Lanes * tileKeys);

    private static int Lines(int dim, int bytes = sizeof(ushort)) => ((dim * bytes) + CacheLine - 1) / CacheLine;

    private nint Entry(Key key)
    {
        if (_entries.TryGetValue(key, out nint entry)) return entry;
        lock (_gate)
        {
            return _entries.TryGetValue(key, out entry) ? entry : _entries[key] = host.Compile(Emit(key))?.Entry ?? 0;
        }
    }

    private Assembler Emit(Key key) => key.Kind switch
    {
        Kind.Scores => DecodeScores.Emit(DecodeElement.Half, bits, key.Dim, key.Other, key.Stride, CallingConvention.Current),
        Kind.Sums => DecodeSums.Emit(DecodeElement.Half, bits, key.Dim, key.Other, key.Stride, CallingConvention.Current),
        Kind.CodeScores => DecodeScores.Emit(Integers, bits, key.Dim, key.Other, key.Stride, CallingConvention.Current),
        Kind.CodeSums => DecodeSums.Emit(Integers, bits, key.Dim, key.Other, key.Stride, CallingConvention.Current),
        Kind.Widening => HalfWidening.Emit(bits, key.Dim, key.Stride, key.Other, CallingConvention.Current),
        _ => throw new InvalidOperationException($"There is no kernel {key.Kind}."),
    };

    private readonly record struct Key(Kind Kind, int Dim, int Stride, int Other);
}
