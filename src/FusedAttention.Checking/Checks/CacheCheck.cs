using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Checks;

/// <summary>
/// A backend's paged cache against lists of rows: two sequences grow by turns, one is forked in the middle of a block, both ends grow on, one is cut and grows again. The backend writes
/// all of it, and every bit must be where the block tables say.
/// </summary>
/// <param name="Types">What the name says of type and blocks.</param>
/// <param name="Type">Element type of keys and values.</param>
/// <param name="BlockSize">Tokens a block.</param>
/// <param name="KeyDim">Elements of a key.</param>
/// <param name="ValueDim">Elements of a value.</param>
public sealed record CacheCheck(string Types, TensorElementType Type, int BlockSize, int KeyDim, int ValueDim) : Check("paged cache", Types)
{
    private const int Heads = 2;

    /// <summary>Each type, blocks whole and not.</summary>
    public static IEnumerable<Check> All { get; } =
    [
        new CacheCheck("fp32, blocks of 7", TensorElementType.Float32, BlockSize: 7, KeyDim: 20, ValueDim: 12),
        new CacheCheck("fp16, blocks of 16", TensorElementType.Float16, BlockSize: 16, KeyDim: 64, ValueDim: 64),
        new CacheCheck("bf16, blocks of 1", TensorElementType.BFloat16, BlockSize: 1, KeyDim: 33, ValueDim: 64),
    ];

    protected override CheckOutcome RunCore(Backend backend, RunOptions run, Action<string> onKernel)
    {
        onKernel("cache");
        using PreparedCache cache = backend.CreateCache(Type, new() { Blocks = 200, BlockSize = BlockSize, KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim });
        var model = new Model(this, cache);
        Tokens first = new(cache.CreateSequence()), second = new(cache.CreateSequence());
        model.Append(first, 5);
        model.Append(second, 33);
        model.Append(first, 1);
        var fork = new Tokens(cache.Fork(second.Sequence));
        fork.Rows.AddRange(second.Rows);
        model.Append(second, 9);
        model.Append(fork, 2);
        cache.Truncate(first.Sequence, 3);
        first.Rows.RemoveRange(3, first.Rows.Count - 3);
        model.Append(first, 20);

        string failure = string.Join("; ", model.Differences(first, second, fork).Take(3));
        return new("cache", Failure: failure.Length == 0 ? null : failure);
    }

    /// <summary>What a sequence must hold.</summary>
    private sealed class Tokens(CacheSequence sequence)
    {
        public CacheSequence Sequence { get; } = sequence;

        public List<(byte[] Key, byte[] Value)> Rows { get; } = [];
    }

    private sealed class Model(CacheCheck check, PreparedCache cache)
    {
        private int _seed = 11;

        public void Append(Tokens sequence, int count)
        {
            LoadedTensor keys = NextRows("keys", count, check.KeyDim), values = NextRows("values", count, check.ValueDim);
            for (int i = 0; i < count; i++) sequence.Rows.Add((Row(keys, i, check.KeyDim).ToArray(), Row(values, i, check.ValueDim).ToArray()));
            cache.Append(sequence.Sequence, keys, values);
        }

        public IEnumerable<string> Differences(params Tokens[] sequences)
        {
            LoadedTensor keys = cache.Keys, values = cache.Values;
            return sequences.SelectMany(sequence => Differences(sequence, keys, values));
        }

        private IEnumerable<string> Differences(Tokens sequence, LoadedTensor keys, LoadedTensor values)
        {
            int[] table = new int[(sequence.Rows.Count + check.BlockSize - 1) / check.BlockSize];
            cache.CopyBlockTable(sequence.Sequence, table);
            for (int i = 0; i < sequence.Rows.Count; i++)
            {
                (int block, int slot) = (table[i / check.BlockSize], i % check.BlockSize);
                int token = (block * check.BlockSize) + slot;
                if (!Row(keys, token, check.KeyDim).SequenceEqual(sequence.Rows[i].Key)) yield return $"key {i} of {sequence.Rows.Count} is not in block {block}, slot {slot}";
                if (!Row(values, token, check.ValueDim).SequenceEqual(sequence.Rows[i].Value)) yield return $"value {i} of {sequence.Rows.Count} is not in block {block}, slot {slot}";
            }
        }

        private LoadedTensor NextRows(string name, int count, int dim)
            => RandomNumbers.Uniform(_seed++, count * Heads * dim, 1).ToTensor(name, check.Type, count, Heads, dim);

        private ReadOnlySpan<byte> Row(LoadedTensor tensor, int token, int dim)
        {
            int bytes = Heads * dim * check.Type.SizeInBytes();
            return tensor.Bytes.Slice(token * bytes, bytes);
        }
    }
}
