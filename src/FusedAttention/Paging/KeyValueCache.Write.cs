using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Rotary;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <content>Writing rows of the host, of any element type. Each form comes as a packed span, as a tensor span of any strides, and as a tensor.</content>
public abstract unsafe partial class KeyValueCache
{
    /// <summary>Blocks that are looked up at once: enough that the lock costs nothing beside the copies, few enough for the stack.</summary>
    private const int BlocksPerLookup = 64;

    /// <summary>Appends one token or many, <c>[tokens, KeyValueHeads, dim]</c>, to a sequence of a cache with one layer.</summary>
    /// <typeparam name="TSource">Element type of the rows: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>. They are converted to that of the cache, to nearest with ties to even.</typeparam>
    /// <param name="sequence">The sequence.</param>
    /// <param name="keys"><c>[tokens, KeyValueHeads, KeyDim]</c>, any strides.</param>
    /// <param name="values"><c>[tokens, KeyValueHeads, ValueDim]</c>, any strides.</param>
    /// <param name="rotary">Rotates keys on their way into the cache, in 32 bits, rounded once: what <see cref="RotaryEmbedding.Apply{T}(Span{T}, ReadOnlySpan{int}, CpuExecution)"/> gives on float keys before they are written. Null: keys are written as they are.</param>
    /// <param name="positions">Where <paramref name="rotary"/> takes tokens to stand, <c>[tokens]</c>; empty: where they are written.</param>
    /// <returns>The position of the first new token.</returns>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks; nothing was changed.</exception>
    /// <exception cref="ArgumentException">A shape or element type is not as described, or the handle is stale.</exception>
    /// <exception cref="InvalidOperationException">The cache has more than one layer: use <see cref="Extend(CacheSequence, int)"/> and <c>Write</c>.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int Append<TSource>(CacheSequence sequence, scoped in ReadOnlyTensorSpan<TSource> keys, scoped in ReadOnlyTensorSpan<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        ThrowIfManyLayers();
        TensorLayout keyLayout = TensorLayout.Of(keys), valueLayout = TensorLayout.Of(values);
        int tokens = CheckRows(keyLayout, valueLayout);
        CheckRotary(rotary, positions, tokens);
        AttentionElementType type = ElementTypes.Of<TSource>(nameof(keys));
        fixed (TSource* firstKey = keys)
        fixed (TSource* firstValue = values)
        fixed (int* firstPosition = positions)
        {
            return Append(sequence, tokens, new(type, firstKey, keyLayout), new(type, firstValue, valueLayout), rotary?.Turns, firstPosition);
        }
    }

    /// <summary>Appends tensors <c>[tokens, KeyValueHeads, dim]</c> to a sequence of a cache with one layer.</summary>
    /// <inheritdoc cref="Append{TSource}(CacheSequence, in ReadOnlyTensorSpan{TSource}, in ReadOnlyTensorSpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public int Append<TSource>(CacheSequence sequence, Tensor<TSource> keys, Tensor<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(values);
        return Append(sequence, keys.AsReadOnlyTensorSpan(), values.AsReadOnlyTensorSpan(), rotary, positions);
    }

    /// <summary>Appends one token or many, <c>[tokens, KeyValueHeads, dim]</c> packed, to a sequence of a cache with one layer.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="keys">tokens x KeyValueHeads x KeyDim elements.</param>
    /// <param name="values">tokens x KeyValueHeads x ValueDim elements.</param>
    /// <param name="rotary">Rotates keys on their way into the cache; null: they are written as they are.</param>
    /// <param name="positions">Where <paramref name="rotary"/> takes tokens to stand, one a token; empty: where they are written.</param>
    /// <inheritdoc cref="Append{TSource}(CacheSequence, in ReadOnlyTensorSpan{TSource}, in ReadOnlyTensorSpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public int Append<TSource>(CacheSequence sequence, ReadOnlySpan<TSource> keys, ReadOnlySpan<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        ThrowIfManyLayers();
        int tokens = CheckRows(keys.Length, values.Length);
        CheckRotary(rotary, positions, tokens);
        AttentionElementType type = ElementTypes.Of<TSource>(nameof(keys));
        fixed (TSource* firstKey = keys)
        fixed (TSource* firstValue = values)
        fixed (int* firstPosition = positions)
        {
            return Append(sequence, tokens, PackedKeys(type, firstKey), PackedValues(type, firstValue), rotary?.Turns, firstPosition);
        }
    }

    /// <summary>
    /// Writes keys and values of one layer, <c>[tokens, KeyValueHeads, dim]</c>, at positions that the sequence has. A block that another sequence sees too is copied first, in all layers; a published one that nobody else uses
    /// is taken back from the index.
    /// </summary>
    /// <typeparam name="TSource">Element type of the rows: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>. They are converted to that of the cache, to nearest with ties to even.</typeparam>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="position">The position of the first token written.</param>
    /// <param name="keys"><c>[tokens, KeyValueHeads, KeyDim]</c>, any strides.</param>
    /// <param name="values"><c>[tokens, KeyValueHeads, ValueDim]</c>, any strides.</param>
    /// <param name="rotary">Rotates keys on their way into the cache, in 32 bits, rounded once: what <see cref="RotaryEmbedding.Apply{T}(Span{T}, ReadOnlySpan{int}, CpuExecution)"/> gives on float keys before they are written. Null: keys are written as they are.</param>
    /// <param name="positions">Where <paramref name="rotary"/> takes tokens to stand, <c>[tokens]</c>; empty: where they are written.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for the copies; nothing was changed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer, or the sequence does not have these positions, or has dropped them.</exception>
    /// <exception cref="ArgumentException">A shape or element type is not as described, or the handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Write<TSource>(int layer, CacheSequence sequence, int position, scoped in ReadOnlyTensorSpan<TSource> keys, scoped in ReadOnlyTensorSpan<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        CheckLayer(layer);
        TensorLayout keyLayout = TensorLayout.Of(keys), valueLayout = TensorLayout.Of(values);
        int tokens = CheckRows(keyLayout, valueLayout);
        CheckRotary(rotary, positions, tokens);
        AttentionElementType type = ElementTypes.Of<TSource>(nameof(keys));
        fixed (TSource* firstKey = keys)
        fixed (TSource* firstValue = values)
        fixed (int* firstPosition = positions)
        {
            Write(layer, sequence, position, tokens, new TokenRows(type, firstKey, keyLayout).Rotated(rotary?.Turns, firstPosition, position), new(type, firstValue, valueLayout));
        }
    }

    /// <summary>Writes tensors <c>[tokens, KeyValueHeads, dim]</c> of one layer at positions that the sequence has.</summary>
    /// <inheritdoc cref="Write{TSource}(int, CacheSequence, int, in ReadOnlyTensorSpan{TSource}, in ReadOnlyTensorSpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public void Write<TSource>(int layer, CacheSequence sequence, int position, Tensor<TSource> keys, Tensor<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(values);
        Write(layer, sequence, position, keys.AsReadOnlyTensorSpan(), values.AsReadOnlyTensorSpan(), rotary, positions);
    }

    /// <summary>Writes packed keys and values of one layer, <c>[tokens, KeyValueHeads, dim]</c>, at positions that the sequence has.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="position">The position of the first token written.</param>
    /// <param name="keys">tokens x KeyValueHeads x KeyDim elements.</param>
    /// <param name="values">tokens x KeyValueHeads x ValueDim elements.</param>
    /// <param name="rotary">Rotates keys on their way into the cache; null: they are written as they are.</param>
    /// <param name="positions">Where <paramref name="rotary"/> takes tokens to stand, one a token; empty: where they are written.</param>
    /// <inheritdoc cref="Write{TSource}(int, CacheSequence, int, in ReadOnlyTensorSpan{TSource}, in ReadOnlyTensorSpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public void Write<TSource>(int layer, CacheSequence sequence, int position, ReadOnlySpan<TSource> keys, ReadOnlySpan<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        CheckLayer(layer);
        int tokens = CheckRows(keys.Length, values.Length);
        CheckRotary(rotary, positions, tokens);
        AttentionElementType type = ElementTypes.Of<TSource>(nameof(keys));
        fixed (TSource* firstKey = keys)
        fixed (TSource* firstValue = values)
        fixed (int* firstPosition = positions)
        {
            Write(layer, sequence, position, tokens, PackedKeys(type, firstKey).Rotated(rotary?.Turns, firstPosition, position), PackedValues(type, firstValue));
        }
    }

    /// <summary>
    /// Writes one layer's keys and values of a whole batch, <c>[batch.TotalQueries, KeyValueHeads, dim]</c>: row <c>r</c> goes where row <c>r</c> of the batch's queries stands, so that <c>ForwardPaged</c> can follow with the same batch.
    /// Shared blocks are copied first, as by the other <c>Write</c>. The bookkeeping is asked once a call, and does nothing from the second layer of a step on.
    /// </summary>
    /// <typeparam name="TSource">Element type of the rows: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>. They are converted to that of the cache, to nearest with ties to even.</typeparam>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="batch">Sequences of this cache, each added once with the query tokens that are its last ones.</param>
    /// <param name="keys"><c>[batch.TotalQueries, KeyValueHeads, KeyDim]</c>, any strides: a slice of packed rows of queries, keys and values will do.</param>
    /// <param name="values"><c>[batch.TotalQueries, KeyValueHeads, ValueDim]</c>, any strides.</param>
    /// <param name="rotary">Rotates keys on their way into the cache, in 32 bits, rounded once: what <see cref="RotaryEmbedding.Apply{T}(Span{T}, ReadOnlySpan{int}, CpuExecution)"/> gives on float keys before they are written. Null: keys are written as they are.</param>
    /// <param name="positions">Where <paramref name="rotary"/> takes tokens to stand, <c>[tokens]</c>; empty: where they are written.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for the copies; nothing was changed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer, or a sequence of the batch has dropped these tokens.</exception>
    /// <exception cref="ArgumentException">
    /// A shape or element type is not as described; or the batch is another cache's, has rows for a sequence twice, or a sequence of it was freed or shortened since it was added.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Write<TSource>(int layer, PagedBatch batch, scoped in ReadOnlyTensorSpan<TSource> keys, scoped in ReadOnlyTensorSpan<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        CheckLayer(layer);
        TensorLayout keyLayout = TensorLayout.Of(keys), valueLayout = TensorLayout.Of(values);
        AttentionElementType type = ElementTypes.Of<TSource>(nameof(keys));
        int tokens = CheckRows(keyLayout, valueLayout);
        CheckRotary(rotary, positions, tokens);
        SlotRuns runs = PrepareWrite(layer, batch, tokens);
        if (rotary is not null && positions.IsEmpty) positions = batch.Positions;
        fixed (TSource* firstKey = keys)
        fixed (TSource* firstValue = values)
        fixed (int* firstPosition = positions)
        {
            _storage.Store(layer, runs, new TokenRows(type, firstKey, keyLayout).Rotated(rotary?.Turns, firstPosition, 0), new TokenRows(type, firstValue, valueLayout));
        }
    }

    /// <summary>Writes one layer's keys and values of a whole batch, as tensors <c>[batch.TotalQueries, KeyValueHeads, dim]</c>.</summary>
    /// <inheritdoc cref="Write{TSource}(int, PagedBatch, in ReadOnlyTensorSpan{TSource}, in ReadOnlyTensorSpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public void Write<TSource>(int layer, PagedBatch batch, Tensor<TSource> keys, Tensor<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(values);
        Write(layer, batch, keys.AsReadOnlyTensorSpan(), values.AsReadOnlyTensorSpan(), rotary, positions);
    }

    /// <summary>Writes one layer's keys and values of a whole batch, <c>[batch.TotalQueries, KeyValueHeads, dim]</c> packed.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="batch">Sequences of this cache, each added once with the query tokens that are its last ones.</param>
    /// <param name="keys">batch.TotalQueries x KeyValueHeads x KeyDim elements.</param>
    /// <param name="values">batch.TotalQueries x KeyValueHeads x ValueDim elements.</param>
    /// <param name="rotary">Rotates keys on their way into the cache; null: they are written as they are.</param>
    /// <param name="positions">Where <paramref name="rotary"/> takes tokens to stand, one a token; empty: where they are written.</param>
    /// <inheritdoc cref="Write{TSource}(int, PagedBatch, in ReadOnlyTensorSpan{TSource}, in ReadOnlyTensorSpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public void Write<TSource>(int layer, PagedBatch batch, ReadOnlySpan<TSource> keys, ReadOnlySpan<TSource> values, RotaryEmbedding? rotary = null, ReadOnlySpan<int> positions = default)
        where TSource : unmanaged
    {
        CheckLayer(layer);
        AttentionElementType type = ElementTypes.Of<TSource>(nameof(keys));
        int tokens = CheckRows(keys.Length, values.Length);
        CheckRotary(rotary, positions, tokens);
        SlotRuns runs = PrepareWrite(layer, batch, tokens);
        if (rotary is not null && positions.IsEmpty) positions = batch.Positions;
        fixed (TSource* firstKey = keys)
        fixed (TSource* firstValue = values)
        fixed (int* firstPosition = positions)
        {
            _storage.Store(layer, runs, PackedKeys(type, firstKey).Rotated(rotary?.Turns, firstPosition, 0), PackedValues(type, firstValue));
        }
    }

    private TokenRows PackedKeys(AttentionElementType type, void* first) => new(type, first, Options.KeyValueHeads, Options.KeyDim);

    private TokenRows PackedValues(AttentionElementType type, void* first) => new(type, first, Options.KeyValueHeads, Options.ValueDim);

    [SkipLocalsInit]
    private int Append(CacheSequence sequence, int tokens, in TokenRows keys, in TokenRows values, RotaryTurns? turns, int* positions)
    {
        Span<int> blocks = stackalloc int[BlocksPerLookup];
        int position = _ledger.Extend(sequence, tokens, blocks);
        try
        {
            Store(0, sequence, position, tokens, blocks, keys.Rotated(turns, positions, position), values);
            return position;
        }
        catch
        {
            // Tokens without contents must not be left behind.
            _ledger.TryTakeBack(sequence, position, _ledger.Version);
            throw;
        }
    }

    [SkipLocalsInit]
    private void Write(int layer, CacheSequence sequence, int position, int tokens, in TokenRows keys, in TokenRows values)
    {
        Span<int> blocks = stackalloc int[BlocksPerLookup];
        _ledger.PrepareWrite(sequence, layer, position, tokens, blocks);
        Store(layer, sequence, position, tokens, blocks, keys, values);
    }

    /// <param name="layer">Which.</param>
    /// <param name="sequence">Whose tokens they are.</param>
    /// <param name="position">Of the first of them.</param>
    /// <param name="tokens">How many.</param>
    /// <param name="blocks">The first of their blocks, as many as it holds.</param>
    /// <param name="keys">The rows of the keys.</param>
    /// <param name="values">The rows of the values.</param>
    private void Store(int layer, CacheSequence sequence, int position, int tokens, Span<int> blocks, in TokenRows keys, in TokenRows values)
    {
        int blockSize = Options.BlockSize;
        int done = 0;
        while (done < tokens)
        {
            int first = (position + done) / blockSize, last = (position + tokens - 1) / blockSize;
            Span<int> some = blocks[..Math.Min(blocks.Length, last - first + 1)];
            if (done > 0) _ledger.CopyBlocks(sequence, first, some);
            int end = (int)Math.Min(tokens, ((long)(first + some.Length) * blockSize) - position);
            _storage.Store(layer, new SlotRuns([done, end], [position + end], some, some.Length, first, blockSize), keys, values);
            done = end;
        }
    }
}
