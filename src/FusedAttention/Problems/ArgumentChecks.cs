using System.Diagnostics.CodeAnalysis;
using FusedAttention.Tensors;

namespace FusedAttention.Problems;

/// <summary>Checks that several calls share. Each throws an exception that names the argument, what it is and what was expected.</summary>
internal static unsafe class ArgumentChecks
{
    /// <summary>Beyond this no kernel has been tried; MLA, the largest in use, needs 576.</summary>
    public const int MaxDim = 4096;

    public static void TypePair(AttentionElementType query, AttentionElementType keyValue, string name)
    {
        if (query == keyValue || query == AttentionElementType.Float32 || keyValue.IsEightBit()) return;
        throw new ArgumentException($"{name} is {keyValue} under a query of {query}; it must have the query's type or 8 bits, or be Float16 or BFloat16 under a Float32 query.", name);
    }

    /// <summary>Refuses what of 8-bit keys and values no device's kernels take.</summary>
    /// <exception cref="NotSupportedException">They are blocks, or scores go through a function.</exception>
    public static void EightBits(AttentionProblem problem, string backend)
    {
        if (problem.KeyValueType == AttentionElementType.Q8Block)
            throw new NotSupportedException($"Keys and values are {problem.KeyValueType}; of 8 bits the {backend} kernels take Int8 and Float8E4M3, with scales beside them. The CPU takes blocks too.");

        // A second pass over special values asks a function again, of products that it forms itself, without scales.
        if (problem.ScoreFunction is not null && problem.KeyValueType.IsEightBit())
            throw new NotSupportedException($"The {backend} kernels have no score functions over keys of {problem.KeyValueType}, and the call has {problem.ScoreFunction}. The CPU computes it.");
    }

    public static void Rank(in TensorLayout layout, string name, int rank, string shape)
    {
        if (layout.Rank != rank) throw new ArgumentException($"{name} has shape {layout}; expected {shape}.", name);
    }

    /// <summary>Rows of one head must be contiguous: the kernels load them as vectors.</summary>
    public static void ContiguousLast(in TensorLayout layout, string name)
    {
        if (layout.Rank == 0 || layout.IsEmpty) return;
        if (layout.Lengths[^1] > 1 && layout.Strides[^1] != 1)
        {
            throw new ArgumentException($"{name} of shape {layout} has stride {layout.Strides[^1]} in its last dimension; it must be contiguous (stride 1).", name);
        }
    }

    public static void Length(in TensorLayout layout, string name, int dimension, long expected, string meaning)
    {
        if (layout.Lengths[dimension] != expected)
        {
            throw new ArgumentException($"{name} has shape {layout}: dimension {dimension - layout.Padding} is {layout.Lengths[dimension]}, but {meaning} is {expected}.", name);
        }
    }

    public static void Dim(long dim, string name, string meaning)
    {
        if (dim is < 1 or > MaxDim) throw new ArgumentException($"{name} has a {meaning} of {dim}; supported are 1 to {MaxDim}.", name);
    }

    public static void Heads(long queryHeads, long keyValueHeads, string queryName, string keyName)
    {
        if (queryHeads < 1) throw new ArgumentException($"{queryName} has {queryHeads} heads; expected 1 or more.", queryName);
        if (keyValueHeads < 1) throw new ArgumentException($"{keyName} has {keyValueHeads} key/value heads; expected 1 or more.", keyName);
        if (queryHeads % keyValueHeads != 0)
        {
            throw new ArgumentException($"{keyName} has {keyValueHeads} key/value heads, which do not divide the {queryHeads} query heads.", keyName);
        }
    }

    /// <summary>Lengths and positions are 32-bit numbers inside a sequence; only offsets into memory are 64-bit.</summary>
    public static void FitsInt(in TensorLayout layout, string name)
    {
        foreach (long length in layout.Lengths)
        {
            if (length > int.MaxValue) throw new ArgumentException($"{name} of shape {layout} has a dimension above {int.MaxValue}.", name);
        }
    }

    public static void PerHead(int count, int heads, string name)
    {
        if (count != 0 && count != heads) Throw($"{name} has {count} values for {heads} query heads; expected one a head, or none.", "options");
    }

    /// <summary>Two elements of an output must not share memory: every dimension must step over all that the smaller-stepping ones span.</summary>
    public static void NotSelfOverlapping(in TensorLayout layout, string name, string argument)
    {
        if (layout.IsAbsent || layout.IsEmpty) return;
        Span<int> order = stackalloc int[TensorLayout.MaxRank];
        int count = 0;
        for (int i = 0; i < layout.Rank; i++)
        {
            if (layout.Lengths[i] > 1) order[count++] = i;
        }

        ReadOnlySpan<long> strides = layout.Strides;
        for (int i = 1; i < count; i++)
        {
            for (int j = i; j > 0 && strides[order[j]] < strides[order[j - 1]]; j--) (order[j], order[j - 1]) = (order[j - 1], order[j]);
        }

        long span = 1;
        for (int i = 0; i < count; i++)
        {
            int dimension = order[i];
            if (strides[dimension] < span)
            {
                Throw(
                    $"{name} of shape {layout} overlaps itself: dimension {dimension - layout.Padding} has stride {strides[dimension]}, but {span} elements lie below it.", argument);
            }

            span = (strides[dimension] * (layout.Lengths[dimension] - 1)) + span;
        }
    }

    /// <summary>
    /// An output must not share memory with another tensor of the call. Tensors that interleave token by token in one buffer (slices of one packed row) are told
    /// apart when they have the same token stride; other interleavings count as overlapping.
    /// </summary>
    /// <param name="written">The output.</param>
    /// <param name="argument">The parameter that it came in.</param>
    /// <param name="other">Any other tensor of the call; may be absent.</param>
    public static void NotOverlapping(in TensorArgument written, string argument, in TensorArgument other)
    {
        if (written.Pointer == null || other.Pointer == null) return;
        long writtenBytes = written.Layout.Extent * written.ElementBytes;
        long otherBytes = other.Layout.Extent * other.ElementBytes;
        if (writtenBytes == 0 || otherBytes == 0) return;
        long distance = (long)(other.Pointer - written.Pointer);
        if (distance >= writtenBytes || -distance >= otherBytes) return;
        if (Interleave(distance, written.Layout, written.ElementBytes, other.Layout, other.ElementBytes)) return;
        Throw($"{written.Name} of shape {written.Layout} overlaps {other.Name} of shape {other.Layout} in memory; attention cannot be computed in place.", argument);
    }

    [DoesNotReturn]
    public static void Throw(string message, string name) => throw new ArgumentException(message, name);

    /// <summary>Whether two rank-4 tensors of equal token stride occupy disjoint parts of each token's period.</summary>
    private static bool Interleave(long distance, in TensorLayout a, int aSize, in TensorLayout b, int bSize)
    {
        if (a.Rank != 4 || b.Rank != 4) return false;
        long period = a.Strides[1] * aSize;
        if (period == 0 || period != b.Strides[1] * bSize) return false;
        if (a.Strides[0] * aSize % period != 0 || b.Strides[0] * bSize % period != 0) return false;
        long aRow = (((a.Lengths[2] - 1) * a.Strides[2]) + a.Lengths[3]) * aSize;
        long bRow = (((b.Lengths[2] - 1) * b.Strides[2]) + b.Lengths[3]) * bSize;
        long offset = ((distance % period) + period) % period;
        return aRow <= offset && offset + bRow <= period;
    }
}
