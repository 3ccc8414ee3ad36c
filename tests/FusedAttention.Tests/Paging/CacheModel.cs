using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests.Paging;

/// <summary>A cache and the naive model of it, changed together; every operation checks what it promises, <see cref="Check"/> compares everything.</summary>
internal sealed partial class CacheModel : IDisposable
{
    private readonly Random _random;
    private readonly int _alphabet;
    private readonly int[] _table = new int[4096];
    private readonly PagedBatch _batch;
    private bool _justExhausted;
    private int _weights = 1;

    public CacheModel(PagedKeyValueCacheOptions options, int seed, int alphabet, int prefixBuckets)
    {
        Cache = new(options, prefixBuckets);
        _batch = Cache.CreateBatch();
        _random = new(seed);
        _alphabet = alphabet;
    }

    public PagedKeyValueCache<float> Cache { get; }

    public List<(CacheSequence Handle, ModelSequence Model)> Living { get; } = [];

    public int Exhausted { get; private set; }

    public int PrefixHits { get; private set; }

    public int CopiesOnWrite { get; private set; }

    /// <summary>Times that blocks of other weights were offered for publishing.</summary>
    public int StaleOffers { get; private set; }

    /// <summary>Times that a block was published which had been computed again in place.</summary>
    public int RecomputedOffers { get; private set; }

    /// <summary>Times that somebody came to share a block of a batch between two layers.</summary>
    public int SharedInStep { get; private set; }

    private int BlockSize => Cache.Options.BlockSize;

    public void Step()
    {
        int choice = _random.Next(100);
        if (Living.Count == 0 || choice < 6) Create();
        else if (choice < 16) CreateFromPrefix();
        else if (choice < 34) Append(1);
        else if (choice < 46) StepBatch();
        else if (choice < 47) Forget();
        else if (choice < 50) Recompute();
        else if (choice < 58) Append(_random.Next(0, (2 * BlockSize) + 4));
        else if (choice < 65) Fork();
        else if (choice < 73) Truncate();
        else if (choice < 77) Drop();
        else if (choice < 87) Publish();
        else if (choice < 92) Rewrite();
        else Free(_random.Next(Living.Count));

        // A pool that stays full sees nothing but refusals: now and then most of the sequences end.
        if (Living.Count > 12 || (_justExhausted && _random.Next(3) == 0))
            while (Living.Count > 3) Free(_random.Next(Living.Count));
        _justExhausted = false;
    }

    public void Free(int index)
    {
        (CacheSequence handle, ModelSequence _) = Living[index];
        Cache.Free(handle);
        Living.RemoveAt(index);
        Assert.False(Cache.Contains(handle));
        Assert.Throws<ArgumentException>(() => Cache.GetLength(handle));
    }

    /// <summary>Contents through the block tables, lengths, owners of every block, and that nothing is lost between used and free.</summary>
    public void Check()
    {
        var mentions = new int[Cache.Options.Blocks];
        foreach ((CacheSequence handle, ModelSequence model) in Living)
        {
            int count = Cache.CopyBlockTable(handle, _table);
            Assert.Equal(model.Length, Cache.GetLength(handle));
            Assert.Equal((model.Length + BlockSize - 1) / BlockSize, count);
            Assert.Equal(model.Dropped * BlockSize, Cache.GetFirstPosition(handle));
            for (int i = 0; i < count; i++)
            {
                if (i < model.Dropped) Assert.Equal(-1, _table[i]);
                else mentions[_table[i]]++;
            }

            CheckContents(handle, model);
        }

        for (int block = 0; block < mentions.Length; block++) Assert.Equal(mentions[block], Cache.Ledger.Owners(block));
        Assert.Equal(mentions.Count(static n => n > 0), Cache.UsedBlocks);
        Assert.Equal(Cache.Options.Blocks, Cache.UsedBlocks + Cache.FreeBlocks);
        Assert.InRange(Cache.KeptBlocks, 0, Cache.FreeBlocks);
        Assert.Equal(Enumerable.Range(0, mentions.Length).Count(b => mentions[b] == 0 && Cache.Ledger.IsPublished(b)), Cache.KeptBlocks);
        Assert.Equal(Living.Count, Cache.SequenceCount);
    }

    public void Dispose() => Cache.Dispose();

    private static float Noise(float payload, int element) => (payload * 4) + element;

    private (CacheSequence Handle, ModelSequence Model) Any() => Living[_random.Next(Living.Count)];

    private void CheckContents(CacheSequence handle, ModelSequence model)
    {
        PagedKeyValueCacheOptions o = Cache.Options;
        Cache.CopyBlockTable(handle, _table);
        for (int layer = 0; layer < o.Layers; layer++)
        {
            ReadOnlyTensorSpan<float> keys = Cache.GetKeys(layer), values = Cache.GetValues(layer);
            for (int p = model.Dropped * BlockSize; p < model.Length; p++)
            {
                int block = _table[p / BlockSize], slot = p % BlockSize;
                float expected = model.Payloads[p] + layer;
                if (keys[block, slot, o.KeyValueHeads - 1, o.KeyDim - 1] != Noise(expected, o.KeyDim - 1) || values[block, slot, 0, 0] != Noise(expected, 0))
                    Assert.Fail($"{handle}, position {p} of {model.Length}, layer {layer}: {values[block, slot, 0, 0]}, expected {Noise(expected, 0)}.");
            }
        }
    }

    private void Create()
    {
        Living.Add((Cache.CreateSequence(), new()));
    }

    private void CreateFromPrefix()
    {
        // A prompt that somebody has, with a tail that perhaps nobody has.
        List<int> prompt = Living.Count > 0 ? [.. Any().Model.Tokens] : [];
        prompt = prompt[.._random.Next(prompt.Count + 1)];
        for (int i = _random.Next(2 * BlockSize); i > 0; i--) prompt.Add(_random.Next(_alphabet));
        int free = Cache.FreeBlocks, kept = Cache.KeptBlocks;
        CacheSequence handle = Cache.CreateSequence(prompt.ToArray(), out int cached);
        Assert.Equal(0, cached % BlockSize);
        Assert.InRange(cached, 0, prompt.Count);
        Assert.Equal(kept - Cache.KeptBlocks, free - Cache.FreeBlocks);
        var model = new ModelSequence();
        for (int i = 0; i < cached; i++) model.Append(prompt[i], _weights);
        Living.Add((handle, model));
        if (cached > 0) PrefixHits++;
        CheckContents(handle, model);
    }

    private void Append(int tokens)
    {
        (CacheSequence handle, ModelSequence model) = Any();
        int free = Cache.FreeBlocks, length = model.Length, needed = Cache.GetBlocksNeeded(handle, tokens);
        ModelSequence grown = model.Copy();
        for (int i = 0; i < tokens; i++) grown.Append(_random.Next(_alphabet), _weights);
        try
        {
            if (Cache.Options.Layers == 1)
            {
                (float[] keys, float[] values) = Rows(grown.Payloads, length, 0);
                Assert.Equal(length, Cache.Append(handle, keys, values));
            }
            else
            {
                Assert.Equal(length, Cache.Extend(handle, tokens));
                for (int layer = 0; layer < Cache.Options.Layers; layer++) WriteAll(layer, handle, length, grown.Payloads);
            }
        }
        catch (OutOfBlocksException e)
        {
            Assert.Equal(needed, e.Needed);
            Assert.Equal(free, e.Free);
            Assert.True(needed > free);
            Exhausted++;
            _justExhausted = true;
            Check();
            return;
        }

        Assert.Equal(free - needed, Cache.FreeBlocks);
        if (tokens > 0 && needed > ((length + tokens + BlockSize - 1) / BlockSize) - ((length + BlockSize - 1) / BlockSize)) CopiesOnWrite++;
        int index = Living.FindIndex(s => s.Handle == handle);
        Living[index] = (handle, grown);
        CheckContents(handle, grown);
    }

    private void Fork()
    {
        (CacheSequence handle, ModelSequence model) = Any();
        int free = Cache.FreeBlocks;
        Living.Add((Cache.Fork(handle), model.Copy()));
        Assert.Equal(free, Cache.FreeBlocks);
    }

    private void Truncate()
    {
        (CacheSequence handle, ModelSequence model) = Any();
        int length = _random.Next(model.Length + 1);
        if (length > 0 && length < model.Dropped * BlockSize)
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => Cache.Truncate(handle, length));
            return;
        }

        Cache.Truncate(handle, length);
        model.Truncate(length);
    }

    private void Drop()
    {
        (CacheSequence handle, ModelSequence model) = Any();
        int position = _random.Next(model.Length + 1);
        Cache.DropBefore(handle, position);
        model.Dropped = Math.Max(model.Dropped, position / BlockSize);
        if (model.Dropped > 0) model.Pristine = false;
    }

    private void Publish()
    {
        (CacheSequence handle, ModelSequence model) = Any();
        int[] tokens = model.Tokens.Take(model.Faithful).ToArray();
        int blocks = tokens.Length / BlockSize, fresh = model.ComputedBy(_weights) / BlockSize;
        Cache.Publish(handle, tokens);
        if (fresh < blocks) StaleOffers++;
        if (_recomputed.Contains(handle) && fresh > 0) RecomputedOffers++;
        CacheSequence again = Cache.CreateSequence(tokens, out int cached);
        if (model.Pristine) Assert.InRange(cached, fresh * BlockSize, blocks * BlockSize);
        var found = new ModelSequence();
        foreach (int token in tokens.AsSpan(0, cached)) found.Append(token, _weights);
        CheckContents(again, found);
        Cache.Free(again);
    }

    private void Rewrite()
    {
        (CacheSequence handle, ModelSequence model) = Any();
        int first = model.Dropped * BlockSize;
        if (model.Length == first) return;
        int position = _random.Next(first, model.Length), end = _random.Next(position, model.Length) + 1, free = Cache.FreeBlocks;
        ModelSequence changed = model.Copy();
        for (int p = position; p < end; p++) changed.Payloads[p] = _random.Next(1 << 20);
        changed.Faithful = Math.Min(changed.Faithful, position);
        changed.Pristine = false;
        try
        {
            for (int layer = 0; layer < Cache.Options.Layers; layer++) WriteAll(layer, handle, position, changed.Payloads[..end]);
        }
        catch (OutOfBlocksException e)
        {
            Assert.True(e.Needed > e.Free);
            Assert.Equal(free, Cache.FreeBlocks);
            Exhausted++;
            _justExhausted = true;
            Check();
            return;
        }

        if (Cache.FreeBlocks < free) CopiesOnWrite++;
        Living[Living.FindIndex(s => s.Handle == handle)] = (handle, changed);
        CheckContents(handle, changed);
    }

    private void WriteAll(int layer, CacheSequence handle, int position, List<float> payloads)
    {
        (float[] keys, float[] values) = Rows(payloads, position, layer);
        Cache.Write(layer, handle, position, keys, values);
    }

    private (float[] Keys, float[] Values) Rows(List<float> payloads, int start, int layer)
    {
        PagedKeyValueCacheOptions o = Cache.Options;
        int tokens = payloads.Count - start;
        return (Fill(o.KeyDim), Fill(o.ValueDim));

        float[] Fill(int dim)
        {
            var rows = new float[tokens * o.KeyValueHeads * dim];
            for (int i = 0; i < rows.Length; i++) rows[i] = Noise(payloads[start + (i / (o.KeyValueHeads * dim))] + layer, i % dim);
            return rows;
        }
    }
}
