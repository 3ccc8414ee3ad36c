using System.Numerics.Tensors;
using FusedAttention.Cpu;
using FusedAttention.Cpu.Rotary;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <summary>
/// Rotary position embedding (Su et al. 2021, arXiv:2104.09864): pairs of elements of queries and keys are turned by angles that grow with the position, so that scores depend on distances. In place on queries; on keys in place, or
/// on their way into a cache (<c>KeyValueCache.Write</c> with an embedding).
/// </summary>
/// <remarks>
/// <para>A pair (x, y) at position p becomes <c>m (x cos a - y sin a, y cos a + x sin a)</c> with <c>a = p * f</c>: <see cref="GetFrequencies"/> has f of each pair, <see cref="RotaryOptions.Scaling"/> decides on f and m. Angles are
/// computed in double precision, cosines and sines rounded once to 32 bits, elements widened, turned in 32 bits and rounded once to their type: an error of at most <c>2^-22 m (|x| + |y|)</c> before that last rounding.</para>
/// <para>The bits of a row follow from the row, its position and the embedding: not from neighbours, threads, strides, instruction set or machine.</para>
/// <para>Immutable, and free to be shared by all layers, sequences and threads of a model. It keeps 4 KB a pair, and 16 bytes a pair for every 256 positions that were used.</para>
/// </remarks>
public sealed unsafe class RotaryEmbedding
{
    private readonly double[] _frequencies;

    /// <summary>Prepares the angles: 0.5 ms for 64 pairs.</summary>
    /// <param name="options">What the model has.</param>
    /// <exception cref="ArgumentException">The rotated elements do not fit the head, or a scaling's bounds contradict each other.</exception>
    public RotaryEmbedding(RotaryOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Check(nameof(options));
        Options = options;
        _frequencies = new double[options.RotaryDim / 2];
        for (int pair = 0; pair < _frequencies.Length; pair++) _frequencies[pair] = options.Scaling?.FrequencyOf(pair, options) ?? RotaryScaling.Unscaled(pair, options);
        Magnitude = options.Scaling?.Magnitude ?? 1;
        Turns = new(options.HeadDim, options.Offset, _frequencies.Length, options.Pairing == RotaryPairing.Interleaved, new(_frequencies, Magnitude));
    }

    /// <summary>What the embedding was made of.</summary>
    public RotaryOptions Options { get; }

    /// <summary>What cosines and sines are multiplied with: 1, or YaRN's attention factor.</summary>
    public double Magnitude { get; }

    internal RotaryTurns Turns { get; }

    /// <summary>Radians that each pair turns by from one position to the next, <c>[RotaryDim / 2]</c>, scaling included ("inv_freq").</summary>
    public ReadOnlySpan<double> GetFrequencies() => _frequencies;

    /// <summary>Rotates packed rows, <c>[tokens, heads, HeadDim]</c>, in place.</summary>
    /// <typeparam name="T">Element type: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="rows">Queries or keys, <c>[tokens, heads, HeadDim]</c> without gaps, any number of heads.</param>
    /// <param name="positions">One a token, e.g. those of <see cref="PagedBatch.Positions"/>; a negative one turns backwards.</param>
    /// <param name="execution">Threads and instruction set, none of which changes a bit; null for <see cref="CpuExecution.Default"/>.</param>
    /// <exception cref="ArgumentException">The number of elements is no multiple of positions x HeadDim, or the type is another.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    public void Apply<T>(Span<T> rows, ReadOnlySpan<int> positions, CpuExecution? execution = null)
        where T : unmanaged
    {
        AttentionElementType type = ElementTypes.Of<T>(nameof(rows));
        long width = (long)positions.Length * Options.HeadDim;
        if (rows.Length != 0 && (width == 0 || rows.Length % width != 0))
            throw new ArgumentException($"rows has {rows.Length} elements, which is not a multiple of positions x HeadDim = {positions.Length} x {Options.HeadDim}.", nameof(rows));
        if (rows.Length == 0) return;
        int heads = (int)(rows.Length / width);
        fixed (T* first = rows)
        fixed (int* firstPosition = positions)
        {
            Run(new()
            {
                First = (byte*)first,
                Type = type,
                Tokens = positions.Length,
                TokensPerBatch = positions.Length,
                Heads = heads,
                TokenStride = (long)heads * Options.HeadDim,
                HeadStride = Options.HeadDim,
                Positions = firstPosition,
            }, execution);
        }
    }

    /// <summary>Rotates rows, <c>[batch, tokens, heads, HeadDim]</c> or <c>[tokens, heads, HeadDim]</c>, in place, of any strides: a slice of packed rows of queries, keys and values will do.</summary>
    /// <typeparam name="T">Element type: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="rows">Queries or keys, <c>[batch, tokens, heads, HeadDim]</c> or <c>[tokens, heads, HeadDim]</c>; contiguous last dimension.</param>
    /// <param name="positions">One a token, which stand for every batch alike; or one for each token of each batch.</param>
    /// <param name="execution">Threads and instruction set, none of which changes a bit; null for <see cref="CpuExecution.Default"/>.</param>
    /// <exception cref="ArgumentException">A shape, stride or type is not as described.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    public void Apply<T>(scoped in TensorSpan<T> rows, ReadOnlySpan<int> positions, CpuExecution? execution = null)
        where T : unmanaged
    {
        AttentionElementType type = ElementTypes.Of<T>(nameof(rows));
        TensorLayout layout = Check(TensorLayout.Of(rows), positions.Length);
        if (layout.IsEmpty) return;
        fixed (T* first = rows)
        fixed (int* firstPosition = positions)
        {
            Run(new()
            {
                First = (byte*)first,
                Type = type,
                Tokens = (int)(layout.Lengths[0] * layout.Lengths[1]),
                TokensPerBatch = (int)layout.Lengths[1],
                Heads = (int)layout.Lengths[2],
                BatchStride = layout.Strides[0],
                TokenStride = layout.Strides[1],
                HeadStride = layout.Strides[2],
                Positions = firstPosition,
                HasPositionsOfEachBatch = positions.Length != layout.Lengths[1],
            }, execution);
        }
    }

    /// <summary>Rotates a tensor <c>[batch, tokens, heads, HeadDim]</c> or <c>[tokens, heads, HeadDim]</c> in place.</summary>
    /// <inheritdoc cref="Apply{T}(in TensorSpan{T}, ReadOnlySpan{int}, CpuExecution)"/>
    public void Apply<T>(Tensor<T> rows, ReadOnlySpan<int> positions, CpuExecution? execution = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(rows);
        Apply(rows.AsTensorSpan(), positions, execution);
    }

    private void Run(in RotaryRows rows, CpuExecution? execution) => RotaryCall.Run(rows, Turns, execution ?? CpuExecution.Default);

    /// <returns>The layout with a batch dimension.</returns>
    private TensorLayout Check(in TensorLayout rows, int positions)
    {
        const string Name = nameof(rows);
        if (rows.Rank is not (3 or 4) || rows.Lengths[^1] != Options.HeadDim)
            throw new ArgumentException($"{Name} has shape {rows}; expected [batch, tokens, heads, {Options.HeadDim}] or [tokens, heads, {Options.HeadDim}].", Name);
        ArgumentChecks.ContiguousLast(rows, Name);
        ArgumentChecks.NotSelfOverlapping(rows, Name, Name);
        TensorLayout layout = rows.PaddedTo(4);
        long tokens = layout.Lengths[1], all = (long)Int128.Min(long.MaxValue, (Int128)layout.Lengths[0] * tokens);
        if (all > int.MaxValue || layout.Lengths[2] > int.MaxValue) throw new ArgumentException($"{Name} of shape {rows} has more than {int.MaxValue} tokens or heads.", Name);
        if (positions != tokens && positions != all)
            throw new ArgumentException($"There are {positions} positions for {Name} of shape {rows}; expected {tokens}, one a token{(all == tokens ? "" : $", or {all}, one for each token of each batch")}.", nameof(positions));
        return layout;
    }
}
