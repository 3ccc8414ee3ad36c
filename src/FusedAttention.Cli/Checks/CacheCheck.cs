using System.Runtime.InteropServices;
using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Formats;

namespace FusedAttention.Cli.Checks;

/// <summary>
/// The device's paged cache against lists of rows: two sequences grow by turns, one is forked in the middle of a block, both ends grow on, one is cut and grows again. The GPU writes
/// all of it, and every bit must be where the block tables say.
/// </summary>
internal sealed record CacheCheck<T>(string Types, MetalDevice Device, int BlockSize, int KeyDim, int ValueDim) : Check("paged cache", Types)
    where T : unmanaged
{
    private const int Heads = 2;

    protected override CheckOutcome RunCore(Backend backend, AttentionOptions run, Action<string> onKernel)
    {
        onKernel("cache");
        using var cache = new MetalPagedKeyValueCache<T>(Device, new() { Blocks = 200, BlockSize = BlockSize, KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim });
        var rows = new RowSource();
        Model first = new(cache.CreateSequence()), second = new(cache.CreateSequence());
        Append(cache, first, rows, 5);
        Append(cache, second, rows, 33);
        Append(cache, first, rows, 1);
        var fork = new Model(cache.Fork(second.Sequence));
        fork.Rows.AddRange(second.Rows);
        Append(cache, second, rows, 9);
        Append(cache, fork, rows, 2);
        cache.Truncate(first.Sequence, 3);
        first.Rows.RemoveRange(3, first.Rows.Count - 3);
        Append(cache, first, rows, 20);

        string failure = string.Join("; ", new[] { first, second, fork }.SelectMany(sequence => Differences(cache, sequence)).Take(3));
        return new("cache", Failure: failure.Length == 0 ? null : failure);
    }

    private void Append(MetalPagedKeyValueCache<T> cache, Model sequence, RowSource rows, int count)
    {
        using MetalTensor<T> keys = Device.Allocate<T>(count, Heads, KeyDim), values = Device.Allocate<T>(count, Heads, ValueDim);
        for (int i = 0; i < count; i++)
        {
            (T[] Key, T[] Value) row = (rows.Next(Heads * KeyDim), rows.Next(Heads * ValueDim));
            row.Key.CopyTo(keys.AsSpan()[(i * Heads * KeyDim)..]);
            row.Value.CopyTo(values.AsSpan()[(i * Heads * ValueDim)..]);
            sequence.Rows.Add(row);
        }

        cache.Append(sequence.Sequence, keys, values);
    }

    private IEnumerable<string> Differences(MetalPagedKeyValueCache<T> cache, Model sequence)
    {
        int[] table = new int[(sequence.Rows.Count + BlockSize - 1) / BlockSize];
        cache.CopyBlockTable(sequence.Sequence, table);
        for (int i = 0; i < sequence.Rows.Count; i++)
        {
            (nint block, nint slot) = (table[i / BlockSize], i % BlockSize);
            if (!Same(cache.GetKeys(), block, slot, sequence.Rows[i].Key)) yield return $"key {i} of {sequence.Rows.Count} is not in block {block}, slot {slot}";
            if (!Same(cache.GetValues(), block, slot, sequence.Rows[i].Value)) yield return $"value {i} of {sequence.Rows.Count} is not in block {block}, slot {slot}";
        }
    }

    private bool Same(MetalTensor<T> tensor, nint block, nint slot, T[] row)
    {
        ReadOnlySpan<T> stored = tensor.AsReadOnlySpan().Slice((int)((block * BlockSize) + slot) * row.Length, row.Length);
        return MemoryMarshal.AsBytes(stored).SequenceEqual(MemoryMarshal.AsBytes<T>(row));
    }

    private sealed class Model(CacheSequence sequence)
    {
        public CacheSequence Sequence { get; } = sequence;

        public List<(T[] Key, T[] Value)> Rows { get; } = [];
    }

    private sealed class RowSource
    {
        private readonly Random _random = new(11);

        public T[] Next(int length)
        {
            float[] numbers = [.. Enumerable.Range(0, length).Select(_ => (float)_random.NextDouble())];
            return LoadedTensor.Create<float>("row", numbers, length).ConvertTo(LoadedTensor.Create<T>("", [], 0).ElementType).Elements<T>().ToArray();
        }
    }
}
