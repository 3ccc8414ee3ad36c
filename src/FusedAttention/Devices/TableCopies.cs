using System.Runtime.CompilerServices;

namespace FusedAttention.Devices;

/// <summary>Tables of functions in a device's memory: each is copied when a call first looks it up, and stays until nobody holds the table any more and nothing under way looks it up.</summary>
/// <typeparam name="TMemory">The backend's memory, which goes back by itself, or when it is disposed, once no work uses it.</typeparam>
/// <param name="copy">Makes a copy: the entries, row by row. One at a time.</param>
internal sealed class TableCopies<TMemory>(Func<ScoreTable, TMemory> copy) : IDisposable
    where TMemory : class, IDisposable
{
    private readonly Lock _gate = new();

    /// <summary>By what tells tables apart. When that is collected, so is the copy, whose memory goes back as that of a tensor that nobody disposed.
    /// Held as what it can do: the table's own type parameter asks trimming to keep a constructor, which native compilation would ask of <typeparamref name="TMemory"/> too (IL2091).</summary>
    private readonly ConditionalWeakTable<object, IDisposable> _copies = [];

    /// <summary>A table's copy: the caller holds the table until it holds the copy.</summary>
    public TMemory Of(in ScoreTable table)
    {
        if (_copies.TryGetValue(table.Identity!, out IDisposable? known)) return (TMemory)known;
        lock (_gate)
        {
            if (_copies.TryGetValue(table.Identity!, out known)) return (TMemory)known;
            TMemory made = copy(table);
            _copies.Add(table.Identity!, made);
            return made;
        }
    }

    /// <summary>The device ends.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            foreach (KeyValuePair<object, IDisposable> entry in _copies) entry.Value.Dispose();
            _copies.Clear();
        }
    }
}
