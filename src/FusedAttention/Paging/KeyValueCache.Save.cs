using System.Buffers;
using System.Runtime.CompilerServices;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;
using FusedAttention.Paging.Saving;

namespace FusedAttention;

/// <content>Sequences in streams: a prompt that is asked for every day, a conversation that goes on tomorrow or on another machine.</content>
public abstract partial class KeyValueCache
{
    /// <summary>Writes a sequence, with its keys and values in all layers, to a stream, from which <see cref="Load"/> makes it again in any cache of the same layers, heads and dimensions.</summary>
    /// <remarks>
    /// 64 bytes, and <c>Layers * KeyValueHeads * (KeyDim + ValueDim)</c> elements of the cache's type a token and their scales; tokens before <see cref="GetFirstPosition"/> are left out. Other sequences may be changed meanwhile, this one may not. The tokens
    /// themselves are not known here: keep them beside it.
    /// </remarks>
    /// <param name="sequence">The sequence.</param>
    /// <param name="destination">Where it goes; it need not be able to seek, and stays open.</param>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="InvalidOperationException">The sequence was changed by another thread meanwhile.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Save(CacheSequence sequence, Stream destination)
    {
        ArgumentNullException.ThrowIfNull(destination);
        foreach (ArraySegment<byte> part in PartsOf(sequence)) destination.Write(part);
    }

    /// <summary>Writes a sequence to a stream without holding a thread while the stream is slow.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="destination">Where it goes; it need not be able to seek, and stays open.</param>
    /// <param name="cancellationToken">Ends it between two pieces of about a megabyte: the stream then holds a part of the sequence.</param>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled.</exception>
    /// <inheritdoc cref="Save"/>
    public async Task SaveAsync(CacheSequence sequence, Stream destination, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(destination);
        foreach (ArraySegment<byte> part in PartsOf(sequence)) await destination.WriteAsync(part, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Makes a new sequence of what <see cref="Save"/> wrote. In a cache of the same element type it has the same bits, scales included; another one rounds or quantizes as <c>Write</c> does. Blocks may be of another size.</summary>
    /// <remarks>The stream is trusted as the model is: lengths are checked against the cache, what keys and values are is not.</remarks>
    /// <param name="source">A stream that stands where <see cref="Save"/> began; it is read to the sequence's end, no further, and stays open.</param>
    /// <returns>The sequence: as long as the saved one, with the same tokens dropped.</returns>
    /// <exception cref="InvalidDataException">
    /// It is not a saved sequence, or one of other layers, heads or dimensions, or its dropped tokens do not end where a block of this cache does. The cache is as it was.
    /// </exception>
    /// <exception cref="EndOfStreamException">The stream ends within the sequence. The cache is as it was.</exception>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks; nothing was changed.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public CacheSequence Load(Stream source)
    {
        ArgumentNullException.ThrowIfNull(source);
        var loaded = new StrongBox<CacheSequence>();
        foreach (ArraySegment<byte> part in PartsFor(loaded)) source.ReadExactly(part);
        return loaded.Value;
    }

    /// <summary>Makes a new sequence of what <see cref="Save"/> wrote, without holding a thread while the stream is slow.</summary>
    /// <param name="source">A stream that stands where <see cref="Save"/> began; it is read to the sequence's end, no further, and stays open.</param>
    /// <param name="cancellationToken">Ends it between two pieces of about a megabyte: the cache is then as it was.</param>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled.</exception>
    /// <inheritdoc cref="Load"/>
    public async Task<CacheSequence> LoadAsync(Stream source, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(source);
        var loaded = new StrongBox<CacheSequence>();
        foreach (ArraySegment<byte> part in PartsFor(loaded)) await source.ReadExactlyAsync(part, cancellationToken).ConfigureAwait(false);
        return loaded.Value;
    }

    /// <summary>What a saved sequence consists of, part by part, in one buffer.</summary>
    private IEnumerable<ArraySegment<byte>> PartsOf(CacheSequence sequence)
    {
        (int first, int length) = _ledger.GetPositions(sequence);
        var saved = new SavedSequence(ElementType, Options.Layers, Options.KeyValueHeads, Options.KeyDim, Options.ValueDim, first, length);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(saved.BufferBytes);
        try
        {
            saved.WriteHead(buffer);
            yield return new(buffer, 0, SavedSequence.HeadBytes);
            for (long i = 0; i < saved.Pieces; i++)
            {
                SavedPiece piece = saved.PieceAt(i);
                Fetch(sequence, piece, buffer);
                yield return new(buffer, 0, piece.Bytes);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Room for one part after the other; what the caller has put into one is stored before the next is given.</summary>
    private IEnumerable<ArraySegment<byte>> PartsFor(StrongBox<CacheSequence> loaded)
    {
        byte[] head = new byte[SavedSequence.HeadBytes];
        yield return head;
        SavedSequence saved = SavedSequence.ReadHead(head);
        CacheSequence sequence = Begin(saved);
        bool isWhole = false;
        byte[] buffer = ArrayPool<byte>.Shared.Rent(saved.BufferBytes);
        try
        {
            for (long i = 0; i < saved.Pieces; i++)
            {
                SavedPiece piece = saved.PieceAt(i);
                yield return new(buffer, 0, piece.Bytes);
                Store(sequence, saved, piece, buffer);
            }

            isWhole = true;
            loaded.Value = sequence;
        }
        finally
        {
            if (!isWhole) _ledger.TryFree(sequence);
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>A sequence with slots for what is to come.</summary>
    private CacheSequence Begin(in SavedSequence saved)
    {
        if (saved.Layers != Options.Layers || saved.Heads != Options.KeyValueHeads || saved.KeyDim != Options.KeyDim || saved.ValueDim != Options.ValueDim)
        {
            throw new InvalidDataException(
                $"The saved sequence has {saved.Layers} layers, {saved.Heads} key/value heads, key dim {saved.KeyDim} and value dim {saved.ValueDim}; " +
                $"this cache has {Options.Layers}, {Options.KeyValueHeads}, {Options.KeyDim} and {Options.ValueDim}.");
        }

        if (saved.FirstPosition % Options.BlockSize != 0)
            throw new InvalidDataException($"The saved sequence has dropped its tokens before position {saved.FirstPosition}, where no block of {Options.BlockSize} tokens begins.");
        CacheSequence sequence = _ledger.Create(saved.FirstPosition);
        try
        {
            _ledger.Extend(sequence, saved.Length - saved.FirstPosition);
            return sequence;
        }
        catch
        {
            _ledger.Discard(sequence);
            throw;
        }
    }

    private unsafe void Fetch(CacheSequence sequence, in SavedPiece piece, byte[] buffer)
    {
        int blockSize = Options.BlockSize, first = piece.Position / blockSize, count = ((piece.Position + piece.Tokens - 1) / blockSize) - first + 1;
        int[] blocks = ArrayPool<int>.Shared.Rent(count);
        try
        {
            _ledger.CopyBlocks(sequence, first, blocks.AsSpan(0, count));
            SlotRuns runs = new([0, piece.Tokens], [piece.Position + piece.Tokens], blocks, count, first, blockSize);
            fixed (byte* destination = buffer) _storage.Fetch(piece.Layer, runs, piece.Tokens, destination);
        }
        finally
        {
            ArrayPool<int>.Shared.Return(blocks);
        }
    }

    private unsafe void Store(CacheSequence sequence, in SavedSequence saved, in SavedPiece piece, byte[] buffer)
    {
        fixed (byte* first = buffer)
        {
            byte* firstValue = first + (piece.Tokens * saved.KeyBytes);
            float* keyScales = saved.ScaleBytes == 0 ? null : (float*)(firstValue + (piece.Tokens * saved.ValueBytes)), valueScales = keyScales == null ? null : keyScales + (piece.Tokens * Options.KeyValueHeads);
            TokenRows keys = new(saved.ElementType, first, keyScales, Options.KeyValueHeads, Options.KeyDim), values = new(saved.ElementType, firstValue, valueScales, Options.KeyValueHeads, Options.ValueDim);
            Write(piece.Layer, sequence, piece.Position, piece.Tokens, keys, values);
        }
    }
}
