using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests.Rotary;

/// <summary>Keys that are rotated on their way into a cache.</summary>
public sealed class RotaryWriteTests
{
    private const int Heads = 2, KeyDim = 22, ValueDim = 3, BlockSize = 4;

    private static readonly RotaryEmbedding Rotary = new(new() { HeadDim = KeyDim, RotaryDim = 18, Offset = 1 });

    /// <summary>Rotated in floats and written is what is written and rotated on the way, from rows of every type into caches of every type, by every door.</summary>
    [Fact]
    public void A_write_rotates_as_rows_of_floats_are_rotated_in_place()
    {
        FromTo<float, float>();
        FromTo<float, Half>();
        FromTo<float, BFloat16>();
        FromTo<Half, float>();
        FromTo<Half, Half>();
        FromTo<Half, BFloat16>();
        FromTo<BFloat16, float>();
        FromTo<BFloat16, Half>();
        FromTo<BFloat16, BFloat16>();
    }

    [Fact]
    public void Positions_of_a_batch_are_where_its_rows_stand()
    {
        using var cache = Cache<float>();
        CacheSequence[] sequences = [cache.CreateSequence(), cache.CreateSequence(), cache.CreateSequence()];
        cache.Extend(sequences, [5, 2, 9]);
        PagedBatch batch = cache.CreateBatch();
        Assert.Equal(0, batch.Positions.Length);
        batch.Add(sequences, [2, 0, 3]);
        Assert.Equal([3, 4, 6, 7, 8], batch.Positions.ToArray());
        batch.Add(sequences[1], 1);
        Assert.Equal([3, 4, 6, 7, 8, 1], batch.Positions.ToArray());
        batch.Clear();
        batch.Add(sequences[0], 1);
        Assert.Equal([4], batch.Positions.ToArray());
    }

    [Fact]
    public void What_does_not_fit_is_refused_before_anything_changes()
    {
        using var cache = Cache<float>();
        CacheSequence sequence = cache.CreateSequence();
        float[] keys = new float[Heads * KeyDim], values = new float[Heads * ValueDim];
        var other = new RotaryEmbedding(new() { HeadDim = 8 });
        AssertRefused("rotary has HeadDim 8, but keys of this cache have 22 elements.", "rotary", () => cache.Append<float>(sequence, keys, values, other));
        AssertRefused("positions has 2 numbers, but keys has 1 tokens.", "positions", () => cache.Append<float>(sequence, keys, values, Rotary, [1, 2]));
        AssertRefused("positions has 1 numbers, but there is no rotary embedding", "positions", () => cache.Append<float>(sequence, keys, values, null, [1]));
        Assert.Equal(0, cache.GetLength(sequence));
        cache.Append<float>(sequence, keys, values, Rotary, [1]);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(sequence, 1);
        AssertRefused("rotary has HeadDim 8", "rotary", () => cache.Write<float>(0, sequence, 0, keys, values, other));
        AssertRefused("rotary has HeadDim 8", "rotary", () => cache.Write<float>(0, batch, keys, values, other));
        AssertRefused("positions has 2 numbers", "positions", () => cache.Write<float>(0, batch, keys, values, Rotary, [1, 2]));

        static void AssertRefused(string start, string name, Action call) => Assert.StartsWith(start, Assert.Throws<ArgumentException>(name, call).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Writing_allocates_nothing()
    {
        using var cache = Cache<Half>();
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();
        float[] keys = new float[7 * Heads * KeyDim], values = new float[7 * Heads * ValueDim];
        Step();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Step();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Step()
        {
            cache.Extend(sequence, 7);
            batch.Clear();
            batch.Add(sequence, 7);
            cache.Write<float>(0, batch, keys, values, Rotary);
            cache.Truncate(sequence, 0);
        }
    }

    private static void FromTo<TSource, T>()
        where TSource : unmanaged
        where T : unmanaged
    {
        const int Tokens = 11, First = 3;
        var generator = new ProblemGenerator(5);
        TSource[] keys = Elements.FromAll<TSource>(generator.Numbers(Tokens * Heads * KeyDim, 2, Elements.TypeOf<TSource>()));
        TSource[] values = Elements.FromAll<TSource>(generator.Numbers(Tokens * Heads * ValueDim, 2, Elements.TypeOf<TSource>()));
        int[] standing = [.. Enumerable.Range(First, Tokens)], given = [.. standing.Select(static i => 1000 - (13 * i))];
        Tensor<TSource> keyTensor = Tensor.Create(keys, [Tokens, Heads, KeyDim]), valueTensor = Tensor.Create(values, [Tokens, Heads, ValueDim]);

        // Elements a few apart, as in a tensor that was transposed.
        TSource[] apart = new TSource[keys.Length];
        for (int i = 0; i < keys.Length; i++) apart[(i % KeyDim * Tokens * Heads) + (i / KeyDim)] = keys[i];
        Tensor<TSource> transposed = Tensor.Create(apart, [Tokens, Heads, KeyDim], [Heads, 1, Tokens * Heads]);

        foreach (int[] positions in (int[][])[[], given])
        {
            float[] rotated = [.. keys.Select(Elements.ToSingle)];
            Rotary.Apply(rotated, positions.Length == 0 ? standing : positions);
            T[] expected = Elements.FromAll<T>(rotated);
            Check((cache, sequence) => cache.Append<TSource>(sequence, keys, values, Rotary, positions), extended: false);
            Check((cache, sequence) => cache.Append(sequence, keyTensor, valueTensor, Rotary, positions), extended: false);
            Check((cache, sequence) => cache.Write<TSource>(0, sequence, First, keys, values, Rotary, positions));
            Check((cache, sequence) => cache.Write(0, sequence, First, keyTensor, valueTensor, Rotary, positions));
            Check((cache, sequence) => cache.Write(0, sequence, First, transposed, valueTensor, Rotary, positions));
            Check((cache, sequence) => cache.Write<TSource>(0, Batch(cache, sequence), keys, values, Rotary, positions));
            Check((cache, sequence) => cache.Write(0, Batch(cache, sequence), keyTensor, valueTensor, Rotary, positions));

            void Check(Action<KeyValueCache, CacheSequence> write, bool extended = true)
            {
                using var cache = Cache<T>();
                cache.Extend(cache.CreateSequence(), BlockSize + 1);
                CacheSequence sequence = cache.CreateSequence();
                cache.Extend(sequence, extended ? First + Tokens : First);
                write(cache, sequence);
                int[] table = new int[8];
                cache.CopyBlockTable(sequence, table);
                for (int i = 0; i < Tokens; i++)
                {
                    int block = table[(First + i) / BlockSize], slot = (First + i) % BlockSize;
                    T[] stored = new T[Heads * KeyDim], storedValue = new T[Heads * ValueDim];
                    cache.GetKeys().Slice(block..(block + 1), slot..(slot + 1), .., ..).FlattenTo(stored);
                    cache.GetValues().Slice(block..(block + 1), slot..(slot + 1), .., ..).FlattenTo(storedValue);
                    Assert.Equal(expected.AsSpan(i * stored.Length, stored.Length).ToArray(), stored);
                    for (int v = 0; v < storedValue.Length; v++) Assert.Equal(Elements.From<T>(Elements.ToSingle(values[(i * storedValue.Length) + v])), storedValue[v]);
                }
            }
        }

        static PagedBatch Batch(KeyValueCache cache, CacheSequence sequence)
        {
            PagedBatch batch = cache.CreateBatch();
            batch.Add(sequence, Tokens);
            return batch;
        }
    }

    private static PagedKeyValueCache<T> Cache<T>()
        where T : unmanaged
        => new(new() { Blocks = 12, BlockSize = BlockSize, KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim });
}
