using Xunit;

namespace FusedAttention.Tests.Paging;

/// <content>Steps of a model over several sequences, with others at work between the layers; and weights that change.</content>
internal sealed partial class CacheModel
{
    private readonly HashSet<CacheSequence> _recomputed = [];
    private readonly List<(CacheSequence Handle, ModelSequence Model)> _forks = [];

    private void Forget()
    {
        Cache.ForgetPrefixes();
        _weights++;
        _recomputed.Clear();
    }

    /// <summary>Computes the first tokens of a sequence again, in place, in some pieces.</summary>
    private void Recompute()
    {
        (CacheSequence handle, ModelSequence model) = Any();
        if (model.Dropped > 0 || model.Length == 0) return;
        int end = _random.Next(3) > 0 ? model.Length : _random.Next(1, model.Length + 1), half = _random.Next(1, end + 1);
        ModelSequence changed = model.Copy();
        changed.Recompute(end, _weights);
        try
        {
            for (int layer = 0; layer < Cache.Options.Layers; layer++)
            {
                WriteAll(layer, handle, 0, changed.Payloads[..half]);
                WriteAll(layer, handle, half, changed.Payloads[..end]);
            }
        }
        catch (OutOfBlocksException)
        {
            // Some of it may be written: the sequence holds nothing that anybody can name any more.
            Free(Living.FindIndex(s => s.Handle == handle));
            return;
        }

        Replace(handle, changed);
        _recomputed.Add(handle);
        CheckContents(handle, changed);
    }

    /// <summary>Extends some sequences, and writes them layer by layer; between the layers forks are made and dropped, and prompts published.</summary>
    private void StepBatch()
    {
        List<(CacheSequence Handle, ModelSequence Model)> chosen = [.. Living.OrderBy(_ => _random.Next()).Take(_random.Next(1, 4))];
        List<ModelSequence> grown = [];
        foreach ((CacheSequence _, ModelSequence model) in chosen)
        {
            grown.Add(model.Copy());
            for (int i = _random.Next(0, BlockSize + 2); i > 0; i--) grown[^1].Append(_random.Next(_alphabet), _weights);
        }

        CacheSequence[] handles = [.. chosen.Select(static s => s.Handle)];
        int[] counts = [.. chosen.Zip(grown, static (s, g) => g.Length - s.Model.Length)];
        int free = Cache.FreeBlocks;
        try
        {
            Cache.Extend(handles, counts);
        }
        catch (OutOfBlocksException e)
        {
            Assert.Equal((free, free), (e.Free, Cache.FreeBlocks));
            Exhausted++;
            _justExhausted = true;
            Check();
            return;
        }

        _batch.Clear();
        _batch.Add(handles, counts);
        for (int layer = 0; layer < Cache.Options.Layers; layer++)
        {
            Disturb(chosen);
            WriteBatch(layer, chosen, grown, counts);
        }

        for (int i = 0; i < chosen.Count; i++) Replace(handles[i], grown[i]);
        foreach ((CacheSequence fork, ModelSequence model) in _forks)
        {
            Cache.Truncate(fork, model.Length);
            Living.Add((fork, model));
        }

        _forks.Clear();
        CheckBatch(handles, grown);
        foreach ((CacheSequence handle, ModelSequence model) in Living) CheckContents(handle, model);
        RefuseOldBatch(grown);
    }

    /// <summary>What other threads may do between two layers of a step. Forks are cut to the tokens that were there before it when it has ended.</summary>
    private void Disturb(List<(CacheSequence Handle, ModelSequence Model)> chosen)
    {
        (CacheSequence handle, ModelSequence model) = chosen[_random.Next(chosen.Count)];
        switch (_random.Next(6))
        {
            case 0:
                _forks.Add((Cache.Fork(handle), model.Copy()));
                SharedInStep++;
                break;
            case 1:
                Cache.Publish(handle, model.Tokens.Take(Math.Min(model.Faithful, model.Length)).ToArray());
                break;
            case 2:
                Cache.Free(Cache.CreateSequence(model.Tokens.ToArray(), out _));
                break;
        }
    }

    private void WriteBatch(int layer, List<(CacheSequence Handle, ModelSequence Model)> chosen, List<ModelSequence> grown, int[] counts)
    {
        List<float> keys = [], values = [];
        for (int i = 0; i < chosen.Count; i++)
        {
            (float[] ownKeys, float[] ownValues) = Rows(grown[i].Payloads, grown[i].Length - counts[i], layer);
            keys.AddRange(ownKeys);
            values.AddRange(ownValues);
        }

        int free = Cache.FreeBlocks;
        while (true)
        {
            try
            {
                Cache.Write(layer, _batch, keys.ToArray(), values.ToArray());
                return;
            }
            catch (OutOfBlocksException e)
            {
                // Forks that came in between need copies. They leave again, and the step goes on.
                Assert.Equal(free, Cache.FreeBlocks);
                Assert.True(e.Needed > e.Free);
                Exhausted++;
                if (_forks.Count > 0)
                {
                    Cache.Free(_forks[^1].Handle);
                    _forks.RemoveAt(_forks.Count - 1);
                    free = Cache.FreeBlocks;
                    continue;
                }

                int other = Living.FindIndex(s => chosen.TrueForAll(c => c.Handle != s.Handle));
                Assert.True(other >= 0, "Nobody else has blocks.");
                Free(other);
                free = Cache.FreeBlocks;
            }
        }
    }

    /// <summary>The batch's own tables, as attention reads them after the last write.</summary>
    private void CheckBatch(CacheSequence[] handles, List<ModelSequence> grown)
    {
        Cache.PrepareRead(0, _batch);
        PagedSequences sequences = _batch.Sequences;
        for (int i = 0; i < handles.Length; i++)
        {
            Assert.Equal(grown[i].Length, sequences.ContextLengths[i]);
            int count = Cache.CopyBlockTable(handles[i], _table);
            Assert.Equal(_table.AsSpan(0, count).ToArray(), sequences.BlockTables.Slice(i * sequences.MaxBlocksPerSequence, count).ToArray());
        }
    }

    private void RefuseOldBatch(List<ModelSequence> grown)
    {
        int victim = _random.Next(grown.Count);
        if (_random.Next(8) > 0 || grown[victim].Length == 0) return;
        CacheSequence handle = Living.Single(s => ReferenceEquals(s.Model, grown[victim])).Handle;
        Cache.Truncate(handle, 0);
        grown[victim].Truncate(0);
        if (Cache.FreeBlocks > 0) Cache.Extend(handle, 1);
        Assert.Throws<ArgumentException>("batch", () => Cache.PrepareRead(0, _batch));
        float[] rows = new float[_batch.TotalQueries * Cache.Options.KeyValueHeads * Cache.Options.KeyDim];
        float[] values = new float[_batch.TotalQueries * Cache.Options.KeyValueHeads * Cache.Options.ValueDim];
        Assert.Throws<ArgumentException>("batch", () => Cache.Write(0, _batch, rows, values));
        Cache.Truncate(handle, 0);
        Check();
    }

    private void Replace(CacheSequence handle, ModelSequence model) => Living[Living.FindIndex(s => s.Handle == handle)] = (handle, model);
}
