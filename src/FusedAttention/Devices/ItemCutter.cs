using FusedAttention.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>
/// Chooses what items take of sequences whose splits their kernel folds: all keys where the call alone keeps the device busy to its end, groups or splits of long sequences where it does not. Reused between calls.
/// </summary>
/// <remarks>
/// <para>
/// Whole sequences leave no partial results and merge nothing: on an H100 64 sequences of 8k keys take 720 us, in splits of 512 keys 762. But a sequence of 4k keys alone takes 44 us whole and 13 in splits, since one block reads
/// some 100 keys a microsecond, a fiftieth of what memory gives.
/// </para>
/// <para>
/// So times are estimated, in keys of a block's share where each multiprocessor has one (22 ns on an H100 at D = 128): all keys go through memory, none is done before its longest item, the last of many items leave multiprocessors
/// idle, and a merge is seen at the end. The shortest time wins, and the coarser of equal ones.
/// </para>
/// </remarks>
internal sealed class ItemCutter
{
    /// <summary>Fence, counter and the last block's way through them: 1 us.</summary>
    private const int KeysOfMerge = 50;

    /// <summary>A hundred clocks or so to fold one.</summary>
    private const int KeysOfMergedPart = 3;

    /// <summary>An item's beginning and end, beside which the other blocks of its multiprocessor read: what 64 sequences of 8k keys in splits took longer than whole, less what partial results account for.</summary>
    private const int KeysOfItem = 15;

    /// <summary>A partial row is some 4 bytes a column, written and read: about two keys and their values, of two bytes a column each.</summary>
    private const int KeysOfPartialRow = 2;

    private Sequence[] _sequences = new Sequence[16];
    private int _count;
    private long _keys;

    public ReadOnlySpan<Sequence> Sequences => _sequences.AsSpan(0, _count);

    public void Clear() => (_count, _keys) = (0, 0);

    /// <param name="index">Of the sequence in the call.</param>
    /// <param name="visible">What its queries may see.</param>
    /// <param name="rows">Of a key/value head.</param>
    /// <param name="folding">The kernel's.</param>
    public void Add(int index, KeyRange visible, int rows, in SplitFolding folding)
    {
        if (_count == _sequences.Length) Array.Resize(ref _sequences, 2 * _count);
        _sequences[_count++] = new(index, visible, rows, new(visible, folding.GroupKeys, folding.MostGroups), new(visible, folding.SplitKeys, int.MaxValue));
        _keys += visible.Length;
    }

    /// <summary>The cut of the call.</summary>
    /// <param name="folding">The kernel's.</param>
    /// <param name="keyValueHeads">Of the call: each item has a block for each.</param>
    /// <param name="itemRows">Rows of an item.</param>
    public ItemCut Choose(in SplitFolding folding, int keyValueHeads, int itemRows)
    {
        ItemCut best = new(int.MaxValue, ItemKeys.Group);
        if (folding.Forced is ItemKeys forced) return forced == ItemKeys.All ? best : new(0, forced);
        double shortest = Time(best, folding, keyValueHeads, itemRows);

        // Nothing is much faster than reading all keys once.
        if (shortest <= 1.01 * _keys * keyValueHeads / folding.Multiprocessors) return best;
        int share = (int)Math.Min(int.MaxValue, _keys * keyValueHeads / (2L * folding.Multiprocessors));
        foreach (ItemCut cut in (ReadOnlySpan<ItemCut>)[new(Math.Max(share, folding.GroupKeys), ItemKeys.Group), new(folding.GroupKeys, ItemKeys.Group), new(folding.SplitKeys, ItemKeys.Split)])
        {
            double time = Time(cut, folding, keyValueHeads, itemRows);
            if (time < shortest) (best, shortest) = (cut, time);
        }

        return best;
    }

    /// <summary>An estimate of how long the call takes, cut so.</summary>
    private double Time(ItemCut cut, in SplitFolding folding, int keyValueHeads, int itemRows)
    {
        long read = 0, items = 0;
        int longest = 0, last = int.MaxValue, mostParts = 1;
        foreach (ref readonly Sequence sequence in Sequences)
        {
            int blocks = keyValueHeads * (sequence.Rows <= itemRows ? 1 : (sequence.Rows + itemRows - 1) / itemRows);
            int parts = 1, keys = sequence.Visible.Length;
            read += (long)keys * blocks;
            if (cut.Of(sequence, folding) is not ItemKeys.All and ItemKeys part)
            {
                KeySplits splits = part == ItemKeys.Group ? sequence.Groups : sequence.Splits;
                (parts, keys) = (splits.Count, Math.Min(splits.Keys, keys));
                read += (long)KeysOfPartialRow * sequence.Rows * keyValueHeads * parts;
            }

            items += (long)blocks * parts;
            read += (long)KeysOfItem * blocks * parts;
            longest = Math.Max(longest, keys);
            last = Math.Min(last, keys);
            mostParts = Math.Max(mostParts, parts);
        }

        double time = Math.Max((double)read / folding.Multiprocessors, longest);
        long slots = (long)folding.Multiprocessors * folding.Blocks, atEnd = items % slots;

        // Few blocks read twice their share, and no more.
        if (items > slots && atEnd > 0) time += last * Math.Max(0, 0.5 - ((double)atEnd / folding.Multiprocessors));
        return mostParts == 1 ? time : time + KeysOfMerge + (KeysOfMergedPart * mostParts);
    }

    /// <summary>A sequence with few rows.</summary>
    internal readonly record struct Sequence(int Index, KeyRange Visible, int Rows, KeySplits Groups, KeySplits Splits);
}

/// <summary>How the sequences of a call are cut into items.</summary>
/// <param name="WholeKeys">Up to how many keys a sequence stays whole.</param>
/// <param name="Longer">What an item takes of longer ones: groups where they are more splits than are merged.</param>
internal readonly record struct ItemCut(int WholeKeys, ItemKeys Longer)
{
    /// <summary>What an item takes of a sequence.</summary>
    public ItemKeys Of(in ItemCutter.Sequence sequence, in SplitFolding folding)
    {
        if (sequence.Visible.Length <= WholeKeys || sequence.Splits.Count == 1) return ItemKeys.All;
        if (Longer == ItemKeys.Split && sequence.Splits.Count <= folding.MostGroups) return ItemKeys.Split;
        return sequence.Groups.Count == 1 ? ItemKeys.All : ItemKeys.Group;
    }
}
