using System.Runtime.InteropServices;
using FusedAttention.Cpu.MachineCode;
using FusedAttention.Cpu.MachineCode.Kernels;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>binary16 by machine code gives the bits of the intrinsics, outputs and log-sum-exps: decode and prefill, any dimension and layout, whatever lies at hidden places.</summary>
public sealed unsafe class HalfKernelTests(ITestOutputHelper output)
{
    private const int CasesPerTest = 30;

    private static readonly int[] Dims = [8, 16, 24, 32, 40, 48, 64, 64, 80, 96, 128, 128, 128, 160, 256, 512, 65];

    private static readonly CpuInstructionSet[] Sets = [CpuInstructionSet.Avx2, CpuInstructionSet.Avx512];

    public static TheoryData<CpuInstructionSet> InstructionSets => [.. Sets];

    public static TheoryData<CpuInstructionSet, int> Seeds()
    {
        var seeds = new TheoryData<CpuInstructionSet, int>();
        foreach (CpuInstructionSet set in Sets)
        {
            for (int block = 0; block < 6; block++) seeds.Add(set, 120_000 + (block * CasesPerTest));
        }

        return seeds;
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void Random_problems_have_the_same_bits(CpuInstructionSet set, int firstSeed)
    {
        SkipWithout(set);
        for (int seed = firstSeed; seed < firstSeed + CasesPerTest; seed++)
        {
            AttentionElementType query = seed % 2 == 0 ? AttentionElementType.Float32 : AttentionElementType.Float16;
            var generator = new ProblemGenerator(seed, isLarge: seed % 6 == 0)
            {
                Specialisations = [.. Dims.Select(dim => (query, AttentionElementType.Float16, dim, Dims[(dim + seed) % 3 == 0 ? seed % Dims.Length : Array.IndexOf(Dims, dim)]))],
                Heads = [(1, 1), (4, 1), (2, 1), (3, 1), (8, 2), (6, 3), (32, 4), (16, 1), (5, 5)],
            };
            Problem problem = generator.NextProblem();
            AssertSame(problem, generator.NextArrangement(), set);
            if (!HiddenKeys.MayHide(problem)) continue;
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            float[] specials = [float.NaN, float.PositiveInfinity, float.NegativeInfinity, 65504, 6e-8f];
            AssertSame(HiddenKeys.With(problem, victims, n => specials[n % 5], n => specials[(n / 5) % 5]), generator.NextArrangement(), set);
        }
    }

    /// <summary>What random problems leave to chance: one and several rows of fours, every remainder of a step and of a tile, one tile and many, heads apart and together.</summary>
    [Theory]
    [MemberData(nameof(InstructionSets))]
    public void Every_number_of_keys_has_the_same_bits(CpuInstructionSet set)
    {
        SkipWithout(set);
        foreach ((int heads, int keyValueHeads, int keyDim, int valueDim) in ((int, int, int, int)[])[(4, 1, 32, 64), (16, 2, 128, 128), (12, 4, 64, 16)])
        {
            foreach (int keys in (int[])[.. Enumerable.Range(1, 21), .. Enumerable.Range(120, 20), 249, 300, 511, 520, 1100])
            {
                Problem problem = new ProblemGenerator(keys).Fill(new Problem
                {
                    Name = "keys", Form = CallForm.Dense, QueryType = AttentionElementType.Float32, KeyValueType = AttentionElementType.Float16,
                    Heads = heads, KeyValueHeads = keyValueHeads, KeyDim = keyDim, ValueDim = valueDim, QueryLengths = [1], KeyLengths = [keys], KeyCapacity = keys, Query = [], Key = [], Value = [],
                });
                foreach (TensorOrder order in Enum.GetValues<TensorOrder>()) AssertSame(problem, Arrangement.Plain with { Key = order, Value = order }, set);
            }
        }
    }

    [Theory]
    [MemberData(nameof(InstructionSets))]
    public void Every_binary16_is_widened_as_ieee_has_it(CpuInstructionSet set)
    {
        SkipWithout(set);
        short bits = (short)(set == CpuInstructionSet.Avx2 ? 256 : 512);
        const int Dim = 128;
        ushort* source = (ushort*)NativeMemory.Alloc(65536, sizeof(ushort));
        float* destination = (float*)NativeMemory.Alloc(65536, sizeof(float));
        nint* rows = stackalloc nint[65536 / Dim];
        for (int i = 0; i < 65536; i++) source[i] = (ushort)i;
        for (int i = 0; i < 65536 / Dim; i++) rows[i] = (nint)(source + (i * Dim)) - 40;

        nint kernel = new NarrowKernels(CodeHost.Current, bits).WidenKeys(Dim);
        var block = new HalfWideningBlock { Rows = rows, RowsEnd = rows + (65536 / Dim), Offset = 40, Destination = destination };
        ((delegate* unmanaged<HalfWideningBlock*, void>)kernel)(&block);
        for (int i = 0; i < 65536; i++)
        {
            float expected = (float)BitConverter.UInt16BitsToHalf((ushort)i);
            Assert.True(float.IsNaN(expected) ? float.IsNaN(destination[i]) : BitConverter.SingleToInt32Bits(expected) == BitConverter.SingleToInt32Bits(destination[i]), $"{i:x4} is {destination[i]:R}, not {expected:R}.");
        }

        NativeMemory.Free(source);
        NativeMemory.Free(destination);
    }

    /// <summary>A call lets the garbage collector move whatever is not pinned, while it runs.</summary>
    [Slow]
    [Theory]
    [MemberData(nameof(InstructionSets))]
    public void Collections_meanwhile_change_nothing(CpuInstructionSet set)
    {
        SkipWithout(set);
        var shape = new AttentionShape(1, 1, 2000, 16, 4, 64);
        var random = new Random(3);
        var execution = new CpuExecution { InstructionSet = set, MachineCode = CpuMachineCode.Required };
        float[] expected = Run(Draw(16 * 64), Halves(2000 * 4 * 64), Halves(2000 * 4 * 64));
        using var collections = Meanwhile.Repeat(static () =>
        {
            _ = new byte[5000];
            GC.Collect(1, GCCollectionMode.Forced, blocking: true, compacting: true);
        });
        for (int i = 0; i < 30; i++)
        {
            // New arrays each time, young enough to be moved.
            random = new Random(3);
            Assert.Equal(expected, Run(Draw(16 * 64), Halves(2000 * 4 * 64), Halves(2000 * 4 * 64)));
        }

        float[] Run(float[] query, Half[] key, Half[] value)
        {
            float[] result = new float[16 * 64];
            Attention.Forward<float, Half>(query, key, value, result, shape, execution: execution);
            return result;
        }

        float[] Draw(int count) => [.. Enumerable.Range(0, count).Select(_ => random.NextSingle() - 0.5f)];

        Half[] Halves(int count)
        {
            var halves = new Half[count];
            for (int i = 0; i < count; i++) halves[i] = (Half)(random.NextSingle() - 0.5f);
            return halves;
        }
    }

    [Fact]
    public void A_first_kernel_takes_no_time_to_speak_of()
    {
        SkipWithout(CpuInstructionSet.Avx2);
        DecodeScores.Emit(DecodeElement.Half, 256, 64, 2, 144, FusedAttention.Cpu.MachineCode.CallingConvention.SystemV);      // compiled by now
        var clock = System.Diagnostics.Stopwatch.StartNew();
        var kernels = new NarrowKernels(CodeHost.Current, 256);
        Assert.True(kernels.TryDecode(128, 128, 144, out DecodeCode code));
        output.WriteLine($"{clock.Elapsed.TotalMicroseconds:0} us");
        Assert.True(kernels.TryDecode(128, 128, 144, out DecodeCode again));
        Assert.Equal(code, again);
    }

    [Fact]
    public void Without_memory_for_code_there_are_no_kernels()
    {
        var kernels = new NarrowKernels(new CodeHost([], static _ => null), 512);
        Assert.True(kernels.Decodes(128) && kernels.Widens(128));
        Assert.False(kernels.TryDecode(128, 128, 144, out _));
        Assert.Equal(0, kernels.WidenKeys(128));
        Assert.Equal(0, kernels.WidenValues(128, 256));
    }

    private static void AssertSame(Problem problem, Arrangement arrangement, CpuInstructionSet set)
    {
        CallResult expected = Caller.Run(problem with { Execution = problem.Execution with { InstructionSet = set, MachineCode = CpuMachineCode.Off } }, arrangement);
        CallResult actual = Caller.Run(problem with { Execution = problem.Execution with { InstructionSet = set, MachineCode = CpuMachineCode.Required } }, arrangement);
        for (int s = 0; s < problem.Sequences; s++)
        {
            AssertSame(expected.Output[s], actual.Output[s], problem);
            if (expected.LogSumExp is not null) AssertSame(expected.LogSumExp[s], actual.LogSumExp![s], problem);
        }
    }

    /// <summary>The same bits, or both NaN, which a row that sees one is by right.</summary>
    private static void AssertSame(float[] expected, float[] actual, Problem problem)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            if (BitConverter.SingleToInt32Bits(expected[i]) == BitConverter.SingleToInt32Bits(actual[i]) || (float.IsNaN(expected[i]) && float.IsNaN(actual[i]))) continue;
            Assert.Fail($"{problem}: element {i} is {actual[i]:R}, and {expected[i]:R} without machine code.");
        }
    }

    private static void SkipWithout(CpuInstructionSet set) =>
        Assert.SkipUnless(Variants.IsSupported(set) && CodeHost.Current is { IsAvailable: true, Features.HasF16C: true }, $"No machine code for {set} here: {CodeHost.Current.State}.");
}
