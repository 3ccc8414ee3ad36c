using System.Numerics.Tensors;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Cpu;

/// <summary>The processor: <see cref="Attention"/> on arrays. Every machine has it.</summary>
public sealed class CpuBackend : Backend
{
    /// <summary>The one there is.</summary>
    public static CpuBackend Instance { get; } = new();

    public override string Name => "cpu";

    public override string Title => "cpu";

    public override string Clock => "wall clock";

    public override bool TakesEightBits => true;

    public override bool TakesBlocks => true;

    public override (string Name, string Value)[] Facts() => [("backend", Name), ("processor", Processor.Name ?? "unknown")];

    public override void ThrowIfNotSupported(RunOptions run)
    {
        Span<float> one = [1f];
        Span<float> result = stackalloc float[1];
        Attention.Forward<float, float>(one, one, one, result, new AttentionShape(1, 1, 1, 1, 1, 1), execution: run.Execution, cancellationToken: run.CancellationToken);
    }

    protected override PreparedCall Prepare<TQuery, TKeyValue>(CallInputs call) => new PreparedCpuCall<TQuery, TKeyValue>(call);

    protected override AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options, RunOptions run) => sizes.QueryLengths is null
        ? Attention.Explain<TQuery, TKeyValue>(sizes.Shape, options, run.Execution)
        : Attention.Explain<TQuery, TKeyValue>(sizes.Shape, sizes.QueryLengths, sizes.KeyLengths, sizes.BlockSize, options, run.Execution);

    protected override MergeResult Merge<TPartial, TOutput>(MergeInputs inputs)
    {
        (long[] shape, long[] statistics) = ([.. inputs.Outputs.Shape[1..]], [.. inputs.LogSumExps.Shape[1..]]);
        Tensor<TOutput> output = Tensor.CreateFromShape<TOutput>(LoadedTensor.Lengths(shape));
        Tensor<float> logSumExp = Tensor.CreateFromShape<float>(LoadedTensor.Lengths(statistics));
        Attention.Merge(inputs.Outputs.AsTensorSpan<TPartial>(), inputs.LogSumExps.AsTensorSpan<float>(), output.AsTensorSpan(), logSumExp.AsTensorSpan(), inputs.SinkLogits);
        return new(Loaded("o", output, shape), Loaded("lse", logSumExp, statistics));
    }

    protected override PreparedCache CreateCache<T>(PagedKeyValueCacheOptions options) => new CpuCache<T>(new(options));

    private static LoadedTensor Loaded<T>(string name, Tensor<T> tensor, long[] shape)
        where T : unmanaged
    {
        T[] elements = new T[tensor.FlattenedLength];
        tensor.FlattenTo(elements);
        return LoadedTensor.Create<T>(name, elements, shape);
    }

    private sealed class CpuCache<T>(PagedKeyValueCache<T> cache) : PreparedCache<T>(cache)
        where T : unmanaged
    {
        private readonly PagedKeyValueCache<T> _cache = cache;

        public override LoadedTensor Keys => Rows("keys", _cache.GetKeys(), _cache.Options.KeyDim);

        public override LoadedTensor Values => Rows("values", _cache.GetValues(), _cache.Options.ValueDim);

        public override void Append(CacheSequence sequence, LoadedTensor keys, LoadedTensor values) => _cache.Append(sequence, keys.Elements<T>(), values.Elements<T>());

        private LoadedTensor Rows(string name, in ReadOnlyTensorSpan<T> pool, int dim)
        {
            T[] elements = new T[pool.FlattenedLength];
            pool.FlattenTo(elements);
            return Pool(name, elements, dim);
        }
    }
}
