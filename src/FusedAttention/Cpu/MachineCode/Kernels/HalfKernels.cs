using System.Collections.Concurrent;

namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>Entries of the kernels that decode binary16 keys and values of one call.</summary>
internal readonly struct HalfDecodeCode
{
    /// <summary>Scores, asking for later keys.</summary>
    public nint ScoresThenKeys { get; init; }

    /// <summary>Scores, asking for values.</summary>
    public nint ScoresThenValues { get; init; }

    /// <summary>Sums, asking for later values.</summary>
    public nint SumsThenValues { get; init; }

    /// <summary>Sums, asking for keys of the next tile.</summary>
    public nint SumsThenKeys { get; init; }
}

/// <summary>The kernels for binary16 keys and values with vectors of one width: emitted when first asked for, one for each dimension, and kept.</summary>
internal sealed class HalfKernels(CodeHost host, short bits)
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
        Widening,
    }

    private int Lanes => bits / 32;

    /// <summary>Whether decode kernels take a dimension: whole vectors, and for scores chains of at most 128 of them.</summary>
    public bool Decodes(int dim) => dim % Lanes == 0 && dim <= 128 * Lanes;

    /// <summary>Whether rows of a dimension are widened: whole pairs of vectors.</summary>
    public bool Widens(int dim) => dim % (2 * Lanes) == 0 && dim <= MaxVectors * Lanes;

    /// <summary>The kernels for grouped heads; false if they do not take the dimensions, or the system has no memory for code.</summary>
    /// <param name="keyDim">Of keys.</param>
    /// <param name="valueDim">Of values.</param>
    /// <param name="scoreStride">Floats between two rows of scores.</param>
    /// <param name="code">Receives them.</param>
    public bool TryDecode(int keyDim, int valueDim, int scoreStride, out HalfDecodeCode code)
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
        return code.ScoresThenKeys != 0 && code.ScoresThenValues != 0 && code.SumsThenValues != 0 && code.SumsThenKeys != 0;
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

    private Key Keys(int dim) => new(Kind.Widening, dim, dim, 2 * Lanes);

    private Key Values(int dim, int tileKeys) => new(Kind.Widening, dim, 2 * Lanes, 2 * Lanes * tileKeys);

    private static int Lines(int dim) => ((dim * sizeof(ushort)) + CacheLine - 1) / CacheLine;

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
        Kind.Scores => HalfScores.Emit(bits, key.Dim, key.Other, key.Stride, CallingConvention.Current),
        Kind.Sums => HalfSums.Emit(bits, key.Dim, key.Other, key.Stride, CallingConvention.Current),
        Kind.Widening => HalfWidening.Emit(bits, key.Dim, key.Stride, key.Other, CallingConvention.Current),
        _ => throw new InvalidOperationException($"There is no kernel {key.Kind}."),
    };

    private readonly record struct Key(Kind Kind, int Dim, int Stride, int Other);
}
