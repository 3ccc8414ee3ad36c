using System.Collections.Immutable;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Checks;

/// <summary>One dense sequence, its queries at once and in chunks from one token up: with row invariance every bit must be the same.</summary>
public sealed record ChunkCheck(string Section, string Name, CallRecipe Recipe) : Check(Section, Name)
{
    /// <summary>Decoding, few rows, and enough of them for a prefill.</summary>
    private static readonly int[] Chunks = [1, 2, 1, 20];

    protected override CheckOutcome RunCore(Backend backend, RunOptions run, Action<string> onKernel)
    {
        CallInputs whole = Recipe.CreateCall(run);
        using PreparedCall prepared = backend.Prepare(whole);
        string kernel = KernelLabel.Of(backend, whole, run);
        onKernel(kernel);
        prepared.Poison();
        prepared.Invoke(whole.Options, run);
        // What nobody wrote would be equal to itself.
        if (prepared.Output.ToDoubles().Any(double.IsNaN)) return new(kernel, Failure: "the output has elements that were not written, or are NaN");
        byte[] expected = prepared.Output.Bytes.ToArray();
        int queryBytes = whole.Query.Bytes.Length / whole.QueryLength, outputBytes = expected.Length / whole.QueryLength;
        for (int first = 0, chunk = 0; first < whole.QueryLength; chunk++)
        {
            int count = chunk < Chunks.Length ? Chunks[chunk] : whole.QueryLength - first;
            using PreparedCall part = backend.Prepare(Part(whole, first, count, queryBytes));
            part.Poison();
            part.Invoke(part.Call.Options, run);
            if (!part.Output.Bytes.SequenceEqual(expected.AsSpan(first * outputBytes, count * outputBytes)))
                return new(kernel, Failure: $"queries {first} to {first + count - 1} of {whole.QueryLength} on their own have other bits ({KernelLabel.Of(backend, part.Call, run)})");
            first += count;
        }

        return new(kernel);
    }

    private static CallInputs Part(CallInputs whole, int first, int count, int queryBytes)
    {
        ImmutableArray<long> shape = [1, count, whole.Heads, whole.KeyDim];
        return new()
        {
            Query = new LoadedTensor("q", whole.Query.ElementType, shape, whole.Query.Bytes.Slice(first * queryBytes, count * queryBytes).ToArray()),
            Key = whole.Key,
            Value = whole.Value,
            // As if the whole had been aligned at the bottom right, wherever the chunk ends.
            Options = whole.Options with { QueryOffset = whole.KeyLength - whole.QueryLength + first },
        };
    }
}
