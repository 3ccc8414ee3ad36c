using FusedAttention.Paging.Ledger;
using Xunit;

namespace FusedAttention.Tests.Paging.Ledger;

/// <summary>The bookkeeping without any memory.</summary>
public sealed class CacheLedgerTests : IDisposable
{
    private readonly RecordingStorage _storage = new();
    private readonly CacheLedger _ledger;

    public CacheLedgerTests() => _ledger = new(blocks: 12, blockSize: 4, layers: 3, _storage, typeof(CacheLedgerTests));

    public void Dispose() => _storage.Dispose();

    [Fact]
    public void A_step_asks_once_a_layer_and_only_the_first_layer_asks_about_sequences()
    {
        CacheSequence[] sequences = [_ledger.Create(), _ledger.Create(), _ledger.Create()];
        var batch = new PagedBatch(_ledger, _storage);
        for (int step = 0; step < 20; step++)
        {
            long before = _ledger.Entries;
            _ledger.Extend(sequences, [1, 1, 1]);
            batch.Clear();
            batch.Add(sequences, [1, 1, 1]);
            for (int layer = 0; layer < 3; layer++)
            {
                batch.PrepareWrite(layer);
                batch.Refresh();
            }

            Assert.Equal(2 + (2 * 3), _ledger.Entries - before);
            if (step % 4 == 3)
                foreach (CacheSequence sequence in sequences) _ledger.Truncate(sequence, _ledger.GetLength(sequence) - 3);
        }

        Assert.Empty(_storage.Copies);
    }

    [Fact]
    public void Who_forks_between_two_layers_keeps_what_was_there()
    {
        CacheSequence a = _ledger.Create();
        _ledger.Extend(a, 6);
        var batch = new PagedBatch(_ledger, _storage);
        batch.Add(a, 2);
        batch.PrepareWrite(0);
        Assert.Equal([0, 1], Table(batch, 0, 2));
        CacheSequence fork = _ledger.Fork(a);
        batch.PrepareWrite(1);
        Assert.Equal([(1, 2, 2)], _storage.Copies);
        Assert.Equal([0, 2], Table(batch, 0, 2));
        Assert.Equal([0, 1], Table(fork));
        Assert.Equal([0, 2], Table(a));

        // Another batch over the same sequence hears of it before it reads.
        var reader = new PagedBatch(_ledger, _storage);
        reader.Add(a, 1);
        _ledger.Fork(a);
        batch.PrepareWrite(2);
        reader.Refresh();
        Assert.Equal(Table(a), Table(reader, 0, 2));
        Assert.Equal(2, _storage.Copies.Count);
    }

    [Fact]
    public void What_is_published_between_two_layers_is_taken_back()
    {
        CacheSequence a = _ledger.Create();
        _ledger.Extend(a, 4);
        var batch = new PagedBatch(_ledger, _storage);
        batch.Add(a, 1);
        batch.PrepareWrite(0);
        _ledger.Publish(a, [1, 2, 3, 4]);
        Assert.True(_ledger.IsPublished(0));
        batch.PrepareWrite(1);
        Assert.False(_ledger.IsPublished(0));

        // Somebody has found it meanwhile: then it is theirs.
        _ledger.Publish(a, [1, 2, 3, 4]);
        _ledger.Create([1, 2, 3, 4, 5], out int cached);
        Assert.Equal(4, cached);
        batch.PrepareWrite(2);
        Assert.Equal([(0, 1, 4)], _storage.Copies);
        Assert.True(_ledger.IsPublished(0));
    }

    [Fact]
    public void A_batch_out_of_date_is_refused_and_changes_nothing()
    {
        CacheSequence a = _ledger.Create(), b = _ledger.Create();
        _ledger.Extend([a, b], [6, 6]);
        var batch = new PagedBatch(_ledger, _storage);
        batch.Add(a, 2);
        _ledger.Truncate(b, 5);
        batch.Add(b, 1);
        batch.PrepareWrite(0);          // b was shortened before it was added
        _ledger.Extend(a, 3);
        batch.PrepareWrite(1);          // longer is no harm
        batch.Refresh();
        Assert.Equal([0, 1, -1], Table(batch, 0, 3));
        _ledger.Truncate(a, 1);
        _ledger.Extend(a, 8);
        Refused("shortened");
        batch.Clear();
        batch.Add(a, 1);
        batch.Refresh();
        _ledger.Free(a);
        Refused("freed");

        void Refused(string how)
        {
            ArgumentException reading = Assert.Throws<ArgumentException>("batch", batch.Refresh);
            Assert.StartsWith($"The batch is out of date: {a} was {how} since it was added.", reading.Message, StringComparison.Ordinal);
            Assert.Throws<ArgumentException>("batch", () => batch.PrepareWrite(2));
        }
    }

    [Fact]
    public void Dropped_blocks_are_dropped_in_batches_too()
    {
        CacheSequence a = _ledger.Create();
        _ledger.Extend(a, 10);
        var batch = new PagedBatch(_ledger, _storage);
        batch.Add(a, 1);
        _ledger.DropBefore(a, 8);
        batch.Refresh();
        Assert.Equal([-1, -1, 2], Table(batch, 0, 3));
        batch.PrepareWrite(0);
        batch.Clear();
        batch.Add(a, 3);
        Assert.Throws<ArgumentOutOfRangeException>("position", () => batch.PrepareWrite(0));
    }

    [Fact]
    public void Rows_of_one_sequence_twice_are_refused()
    {
        CacheSequence a = _ledger.Create();
        _ledger.Extend(a, 4);
        var batch = new PagedBatch(_ledger, _storage);
        batch.Add([a, a], [1, 0]);
        batch.PrepareWrite(0);
        batch.Add(a, 1);
        batch.Refresh();
        Assert.Contains("twice", Assert.Throws<ArgumentException>("batch", () => batch.PrepareWrite(0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_batch_finds_blocks_for_all_its_copies_or_takes_none()
    {
        CacheSequence a = _ledger.Create(), b = _ledger.Create();
        _ledger.Extend([a, b], [6, 6]);
        var batch = new PagedBatch(_ledger, _storage);
        batch.Add([a, b], [1, 1]);
        _ledger.Fork(a);
        _ledger.Fork(b);
        CacheSequence others = _ledger.Create();
        _ledger.Extend(others, 7 * 4);
        OutOfBlocksException none = Assert.Throws<OutOfBlocksException>(() => batch.PrepareWrite(0));
        Assert.Equal((2, 1), (none.Needed, none.Free));
        Assert.Empty(_storage.Copies);
        _ledger.Truncate(others, 24);
        batch.PrepareWrite(0);
        Assert.Equal(2, _storage.Copies.Count);
        Assert.Equal(0, _ledger.AvailableBlocks);
    }

    [Fact]
    public void A_copy_that_fails_extends_nobody()
    {
        CacheSequence a = _ledger.Create(), b = _ledger.Create();
        _ledger.Extend([a, b], [6, 6]);
        CacheSequence c = _ledger.Fork(a), d = _ledger.Fork(b);
        _storage.FailAt = 1;
        Assert.Throws<IOException>(() => _ledger.Extend([a, b], [1, 5]));
        Assert.Equal((6, 6, 6, 6), (_ledger.GetLength(a), _ledger.GetLength(b), _ledger.GetLength(c), _ledger.GetLength(d)));
        Assert.Equal((5, 7), (_ledger.UsedBlocks, _ledger.AvailableBlocks));     // a has a copy of its own already
        Assert.Throws<IOException>(() => _ledger.Extend(b, 1));
        Assert.Equal((6, 5), (_ledger.GetLength(b), _ledger.UsedBlocks));
        _storage.FailAt = -1;
        _ledger.Extend([a, b], [1, 5]);
        foreach (CacheSequence sequence in (CacheSequence[])[a, b, c, d]) _ledger.Free(sequence);
        Assert.Equal((0, 12), (_ledger.UsedBlocks, _ledger.AvailableBlocks));
    }

    [Fact]
    public void Nothing_that_was_computed_before_prefixes_were_forgotten_is_published()
    {
        int[] tokens = [.. Enumerable.Range(0, 12)];
        CacheSequence old = _ledger.Create();
        _ledger.Extend(old, 6);
        CacheSequence fork = _ledger.Fork(old);
        _ledger.ForgetPrefixes();
        _ledger.Extend([old, fork], [6, 6]);
        _ledger.Publish(old, tokens);
        _ledger.Publish(fork, tokens);
        Assert.Equal(0, Cached(tokens));

        // Computed anew: by a new sequence, by truncating, and in place, layer by layer and in pieces.
        CacheSequence anew = _ledger.Create();
        _ledger.Extend(anew, 4);
        _ledger.Publish(anew, tokens.AsSpan(0, 4));
        Assert.Equal(4, Cached(tokens));
        _ledger.Publish(old, tokens);
        Assert.Equal(4, Cached(tokens));    // the rest of the old one does not follow the new block
        _ledger.Truncate(fork, 0);
        _ledger.Extend(fork, 8);
        _ledger.Publish(fork, tokens.AsSpan(0, 8));
        Assert.Equal(8, Cached(tokens));
        for (int layer = 0; layer < 3; layer++)
        {
            _ledger.Publish(old, tokens);
            Assert.Equal(8, Cached(tokens));
            _ledger.PrepareWrite(old, layer, 0, 7, []);
            _ledger.PrepareWrite(old, layer, 7, 5, []);
        }

        _ledger.Publish(old, tokens);
        Assert.Equal(12, Cached(tokens));
        _ledger.ForgetPrefixes();
        foreach (CacheSequence sequence in (CacheSequence[])[old, fork, anew])
            _ledger.Publish(sequence, tokens.AsSpan(0, _ledger.GetLength(sequence)));
        Assert.Equal(0, Cached(tokens));
    }

    /// <summary>A step may be under way when prefixes are forgotten; a sequence written again by a batch of its own is fresh.</summary>
    [Fact]
    public void A_batch_from_before_computes_nothing_anew()
    {
        int[] tokens = [.. Enumerable.Range(0, 8)];
        CacheSequence a = _ledger.Create();
        _ledger.Extend(a, 8);
        var batch = new PagedBatch(_ledger, _storage);
        batch.Add(a, 8);
        batch.PrepareWrite(0);
        _ledger.ForgetPrefixes();
        for (int layer = 0; layer < 3; layer++) batch.PrepareWrite(layer);
        _ledger.Publish(a, tokens);
        Assert.Equal(0, Cached(tokens));
        batch.Clear();
        batch.Add(a, 8);
        batch.PrepareWrite(0);
        batch.PrepareWrite(2);
        _ledger.Publish(a, tokens);
        Assert.Equal(0, Cached(tokens));
        batch.PrepareWrite(1);
        _ledger.Publish(a, tokens);
        Assert.Equal(8, Cached(tokens));
    }

    [Fact]
    public void Questions_that_may_be_answered_with_no()
    {
        CacheSequence a = _ledger.Create();
        _ledger.Extend(a, 10);
        Assert.True(_ledger.TryGetBlocksNeeded(a, 10, 3, out int blocks));
        Assert.Equal(1, blocks);
        Assert.False(_ledger.TryGetBlocksNeeded(a, 9, 3, out _));
        Assert.True(_ledger.HasLength(a, 10));
        Assert.False(_ledger.HasLength(a, 11) || _ledger.HasLength(default, 0));
        _ledger.DropBefore(a, 9);
        Assert.False(_ledger.TryTakeBack(a, 11, _ledger.Version) || _ledger.TryTakeBack(default, 0, _ledger.Version));
        Assert.False(_ledger.TryTakeBack(a, 9, _ledger.Version - 1));
        Assert.Equal(10, _ledger.GetLength(a));
        Assert.True(_ledger.TryTakeBack(a, 10, 0) && _ledger.TryTakeBack(a, 8, _ledger.Version));
        Assert.Equal(8, _ledger.GetLength(a));
        _ledger.TryFree(a);
        _ledger.TryFree(a);
        _ledger.Close();
        Assert.False(_ledger.TryTakeBack(a, 0, _ledger.Version) || _ledger.Contains(a));
        _ledger.TryFree(a);
        Assert.Contains(nameof(CacheLedgerTests), Assert.Throws<ObjectDisposedException>(() => _ledger.HasLength(a, 0)).ObjectName, StringComparison.Ordinal);
    }

    [Fact]
    public void Who_waits_hears_of_blocks_that_come_back()
    {
        CacheSequence a = _ledger.Create(), b = _ledger.Create();
        _ledger.Extend([a, b], [8, 9]);
        Heard(() => _ledger.Truncate(a, 5), expected: false);      // no block comes back
        Heard(() => _ledger.Truncate(a, 4));
        Heard(() => _ledger.DropBefore(b, 3), expected: false);
        Heard(() => _ledger.DropBefore(b, 4));
        Heard(() => _ledger.Publish(a, [1, 2, 3, 4]));
        Heard(() => _ledger.Discard(_ledger.Create([1, 2, 3, 4], out _)), expected: false);
        Heard(() => _ledger.TryTakeBack(b, 8, _ledger.Version));
        Heard(() => _ledger.Free(b));
        Heard(() => _ledger.TryFree(a));
        Heard(_ledger.Close);

        void Heard(Action change, bool expected = true)
        {
            long seen = _ledger.Releases;
            TaskCompletionSource early = new(), late = new();
            _ledger.NotifyOfReleases(seen, early);
            _ledger.NotifyOfReleases(seen, early);
            Assert.False(early.Task.IsCompleted);
            change();
            _ledger.NotifyOfReleases(seen, late);
            Assert.Equal((expected, expected), (early.Task.IsCompleted, late.Task.IsCompleted));
        }
    }

    private int Cached(int[] tokens)
    {
        _ledger.Discard(_ledger.Create(tokens, out int cached));
        return cached;
    }

    private int[] Table(CacheSequence sequence)
    {
        int[] table = new int[_ledger.CopyTable(sequence, [])];
        _ledger.CopyTable(sequence, table);
        return table;
    }

    private static int[] Table(PagedBatch batch, int row, int blocks) => batch.Sequences.BlockTables.Slice(row * batch.Sequences.MaxBlocksPerSequence, blocks).ToArray();
}
