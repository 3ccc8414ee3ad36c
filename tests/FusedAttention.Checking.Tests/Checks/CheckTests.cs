using System.Numerics.Tensors;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Checks;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>Checks fail what is wrong.</summary>
public sealed class CheckTests
{
    [Fact]
    public void Chunks_with_other_bits_than_the_whole_fail()
    {
        // Without row invariance the CPU decodes few rows by another kernel, in another order.
        var recipe = new CallRecipe { QueryLengths = [45], KeyLengths = [300], QueryType = TensorElementType.Float32, KeyValueType = TensorElementType.Float32 };

        CheckOutcome outcome = new ChunkCheck("bits", "chunks", recipe).Run(CpuBackend.Instance, RunOptions.Default);

        Assert.Equal("queries 0 to 0 of 45 on their own have other bits (decode)", outcome.Failure);
        Assert.Null(new ChunkCheck("bits", "chunks", recipe with { Options = new() { RowInvariant = true } }).Run(CpuBackend.Instance, RunOptions.Default).Failure);
    }


    [Fact]
    public void A_merge_without_its_sinks_and_a_cache_without_its_values_fail()
    {
        string[] failed = [.. MergeCheck.All.Concat(CacheCheck.All).Where(static check => check.Run(new Careless(), RunOptions.Default).Failure is not null).Select(static check => check.FullName)];
        Assert.Equal(
            ["merge: fp32 to fp16, sinks, D 33", "merge: bf16, sinks, D 96", "paged cache: fp32, blocks of 7", "paged cache: fp16, blocks of 16", "paged cache: bf16, blocks of 1"],
            failed, StringComparer.Ordinal);
        Assert.All(MergeCheck.All.Concat(CacheCheck.All), static check => Assert.Null(check.Run(CpuBackend.Instance, RunOptions.Default).Failure));
    }

    /// <summary>The processor, but for sinks and values.</summary>
    private sealed class Careless : Backend
    {
        public override string Name => "careless";

        public override string Title => "careless";

        public override string Clock => "none";

        public override void ThrowIfNotSupported(RunOptions run)
        {
        }

        protected override PreparedCall Prepare<TQuery, TKeyValue>(CallInputs call) => CpuBackend.Instance.Prepare(call);

        protected override AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options, RunOptions run) => CpuBackend.Instance.Explain(sizes, options, run);

        protected override MergeResult Merge<TPartial, TOutput>(MergeInputs inputs) => CpuBackend.Instance.Merge(inputs with { SinkLogits = [] });

        protected override PreparedCache CreateCache<T>(PagedKeyValueCacheOptions options) => new CarelessCache<T>(new(options));
    }

    private sealed class CarelessCache<T>(PagedKeyValueCache<T> cache) : PreparedCache<T>(cache)
        where T : unmanaged
    {
        private readonly PagedKeyValueCache<T> _cache = cache;

        public override LoadedTensor Keys => Pool("keys", Flat(_cache.GetKeys()), _cache.Options.KeyDim);

        public override LoadedTensor Values => Pool("values", Flat(_cache.GetValues()), _cache.Options.ValueDim);

        public override void Append(CacheSequence sequence, LoadedTensor keys, LoadedTensor values) => _cache.Append(sequence, keys.Elements<T>(), new T[values.ElementCount]);

        private static T[] Flat(in ReadOnlyTensorSpan<T> pool)
        {
            T[] elements = new T[pool.FlattenedLength];
            pool.FlattenTo(elements);
            return elements;
        }
    }
}
