using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>
/// Numbers that a score or mask function looks up: one after the other, or rows of columns. A copy of what it is made of, immutable, and kept alive by whoever holds the struct.
/// </summary>
/// <remarks>
/// An index outside of the table means its nearest entry, so nothing beyond it is ever read. Where a function looks up <see cref="ScoreContext{T}.Head"/>, <see cref="ScoreContext{T}.Batch"/>, <see cref="ScoreContext{T}.Query"/> or
/// <see cref="ScoreContext{T}.Key"/> itself, a call whose heads, sequences, queries or keys are more than the table has is refused.
/// </remarks>
public readonly unsafe struct ScoreTable
{
    /// <summary>2^24: whole numbers up to it are floats.</summary>
    internal const int LargestExact = 1 << 24;

    // Allocated where the collector moves nothing, so that kernels may keep the address as long as somebody keeps the array.
    private readonly float[]? _values;

    /// <summary>A list of numbers.</summary>
    /// <param name="values">At least one.</param>
    /// <exception cref="ArgumentException">There are none, or more than 2^24.</exception>
    public ScoreTable(ReadOnlySpan<float> values)
        : this(values, 1, values.Length)
    {
    }

    /// <summary>Rows of columns.</summary>
    /// <param name="values"><c>[rows, columns]</c>, row by row.</param>
    /// <param name="rows">Rows, 1 or more.</param>
    /// <param name="columns">Columns, 1 or more.</param>
    /// <exception cref="ArgumentException">There are not <c>rows x columns</c> numbers, or more than 2^24.</exception>
    public ScoreTable(ReadOnlySpan<float> values, int rows, int columns)
        : this(rows, columns, values.Length) => values.CopyTo(_values);

    /// <summary>A list of whole numbers: ids, lengths, buckets.</summary>
    /// <param name="values">At least one; magnitudes up to 2^24, which 32-bit floats hold exactly.</param>
    /// <exception cref="ArgumentException">There are none or more than 2^24, or one is too large.</exception>
    public ScoreTable(ReadOnlySpan<int> values)
        : this(values, 1, values.Length)
    {
    }

    /// <summary>Rows of columns of whole numbers.</summary>
    /// <param name="values"><c>[rows, columns]</c>, row by row; magnitudes up to 2^24, which 32-bit floats hold exactly.</param>
    /// <param name="rows">Rows, 1 or more.</param>
    /// <param name="columns">Columns, 1 or more.</param>
    /// <exception cref="ArgumentException">There are not <c>rows x columns</c> numbers, or more than 2^24, or one is too large.</exception>
    public ScoreTable(ReadOnlySpan<int> values, int rows, int columns)
        : this(rows, columns, values.Length)
    {
        for (int i = 0; i < values.Length; i++)
        {
            if (Math.Abs((long)values[i]) > LargestExact) Throw($"values[{i}] is {values[i]}; a table holds whole numbers up to 2^24, which 32-bit floats tell apart.", nameof(values));
            _values![i] = values[i];
        }
    }

    private ScoreTable(int rows, int columns, int length)
    {
        if (rows < 1 || columns < 1) Throw($"A table of {rows} x {columns} has no entry; expected 1 or more rows and columns.", "values");
        if ((long)rows * columns != length) Throw($"values has {length} numbers; a table of {rows} x {columns} has {(long)rows * columns}.", "values");
        if (length > LargestExact) Throw($"values has {length} numbers; a table has up to 2^24.", "values");
        (Rows, Columns) = (rows, columns);
        _values = GC.AllocateUninitializedArray<float>(length, pinned: true);
        First = (float*)Unsafe.AsPointer(ref _values[0]);
    }

    /// <summary>Rows; 1 for a list, 0 for a default table, which no function may look up.</summary>
    public int Rows { get; }

    /// <summary>Columns of a row, or entries of a list.</summary>
    public int Columns { get; }

    /// <summary>The entries row by row.</summary>
    public ReadOnlySpan<float> Values => _values;

    /// <summary>Where the entries lie: while the struct, or a copy, is held.</summary>
    internal float* First { get; }

    /// <summary>What tells tables apart; copies are the same one. Null for a default table.</summary>
    internal object? Identity => _values;

    /// <summary>An entry of a list, or of the first row.</summary>
    /// <param name="index">Which; what is outside means the nearest, a fraction the whole number below.</param>
    /// <typeparam name="T">The form of numbers.</typeparam>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T At<T>(T index)
        where T : struct, IScoreValue<T>
        => T.Lookup(this, index);

    /// <summary>An entry of rows and columns.</summary>
    /// <param name="row">Which row; what is outside means the nearest, a fraction the whole number below.</param>
    /// <param name="column">Which column; the same.</param>
    /// <typeparam name="T">The form of numbers.</typeparam>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T At<T>(T row, T column)
        where T : struct, IScoreValue<T>
        => T.Lookup(this, row, column);

    /// <summary>The shape, for messages.</summary>
    public override string ToString() => Rows == 1 ? string.Create(CultureInfo.InvariantCulture, $"[{Columns}]") : string.Create(CultureInfo.InvariantCulture, $"[{Rows}, {Columns}]");

    [DoesNotReturn]
    private static void Throw(string message, string name) => throw new ArgumentException(message, name);
}
