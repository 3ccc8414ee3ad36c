using BenchmarkDotNet.Attributes;

namespace FusedAttention.Benchmarks;

/// <summary>Whole calls through the public API, one thread: what the pieces add up to. Allocated must be empty.</summary>
public class CallBenchmarks
{
    private Call _prefill = null!;
    private Call _causal = null!;
    private Call _decode = null!;
    private Call _groupedDecode = null!;
    private Call _tiny = null!;

    public static IEnumerable<CpuInstructionSet> Sets => InstructionSets.Supported;

    [ParamsSource(nameof(Sets))]
    public CpuInstructionSet Set { get; set; }

    [Params(AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16)]
    public AttentionElementType Type { get; set; }

    [GlobalSetup]
    public void Create()
    {
        var prefill = new AttentionShape(batch: 1, queryLength: 512, keyLength: 512, queryHeads: 2, keyValueHeads: 2, keyDim: 128);
        _prefill = Call.Create(Type, prefill, AttentionMask.Full, Set);
        _causal = Call.Create(Type, prefill, AttentionMask.Causal, Set);
        _decode = Call.Create(Type, new(batch: 1, queryLength: 1, keyLength: 4096, queryHeads: 8, keyValueHeads: 8, keyDim: 128), AttentionMask.Full, Set);
        _groupedDecode = Call.Create(Type, new(batch: 1, queryLength: 1, keyLength: 4096, queryHeads: 32, keyValueHeads: 8, keyDim: 128), AttentionMask.Full, Set);
        _tiny = Call.Create(Type, new(batch: 1, queryLength: 1, keyLength: 8, queryHeads: 4, keyValueHeads: 1, keyDim: 64), AttentionMask.Full, Set);
    }

    /// <summary>0.27 GFLOP.</summary>
    [Benchmark]
    public void Prefill512() => _prefill.Run();

    /// <summary>0.13 GFLOP.</summary>
    [Benchmark]
    public void CausalPrefill512() => _causal.Run();

    /// <summary>8.4 million elements of keys and values.</summary>
    [Benchmark]
    public void Decode4096() => _decode.Run();

    /// <summary>The same keys and values for four times the heads.</summary>
    [Benchmark]
    public void GroupedDecode4096() => _groupedDecode.Run();

    /// <summary>8 keys: what a call costs before it computes anything.</summary>
    [Benchmark]
    public void TinyDecode() => _tiny.Run();

    private abstract class Call
    {
        public static Call Create(AttentionElementType type, AttentionShape shape, AttentionMask mask, CpuInstructionSet set)
        {
            var options = new AttentionOptions { Mask = mask };
            var execution = new CpuExecution { InstructionSet = set, MaxDegreeOfParallelism = 1 };
            return type switch
            {
                AttentionElementType.Float32 => new Of<float>(shape, options, execution, static x => x),
                AttentionElementType.Float16 => new Of<Half>(shape, options, execution, static x => (Half)x),
                _ => new Of<BFloat16>(shape, options, execution, static x => (BFloat16)x),
            };
        }

        public abstract void Run();

        private sealed class Of<T>(AttentionShape shape, AttentionOptions options, CpuExecution execution, Func<float, T> round) : Call
            where T : unmanaged
        {
            private readonly T[] _query = Random(1, shape.QueryLength * shape.QueryHeads * shape.KeyDim, round);
            private readonly T[] _key = Random(2, shape.KeyLength * shape.KeyValueHeads * shape.KeyDim, round);
            private readonly T[] _value = Random(3, shape.KeyLength * shape.KeyValueHeads * shape.KeyDim, round);
            private readonly T[] _output = new T[shape.QueryLength * shape.QueryHeads * shape.KeyDim];

            public override void Run() => Attention.Forward(_query, _key, _value, _output, shape, options, execution: execution);

            private static T[] Random(int seed, int count, Func<float, T> round)
            {
                var random = new Random(seed);
                var numbers = new T[count];
                foreach (ref T number in numbers.AsSpan()) number = round((random.NextSingle() * 2) - 1);
                return numbers;
            }
        }
    }
}
