using Xunit;

namespace FusedAttention.Tests;

/// <summary>
/// Every tensor of a call ends exactly where an inaccessible page begins, and in a second run begins exactly where one ends: an access out of
/// bounds kills the process.
/// </summary>
/// <remarks>
/// If the test process dies, the file fusedattention-guard-pages-*.txt in the folder of temporary files names the problem that was running; it is
/// deleted when all went well.
/// </remarks>
[Slow]
public sealed class GuardPageTests
{
    private const int CasesPerTest = 12;

    public static TheoryData<CpuInstructionSet, Placement, int> Cases()
    {
        var cases = new TheoryData<CpuInstructionSet, Placement, int>();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            for (int block = 0; block < 6; block++)
            {
                cases.Add(variant, Placement.GuardAfter, 40_000 + (block * CasesPerTest));
                cases.Add(variant, Placement.GuardBefore, 40_000 + (block * CasesPerTest));
            }
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void No_tensor_is_read_or_written_out_of_bounds(CpuInstructionSet variant, Placement placement, int firstSeed)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Guard pages are mapped on Linux only.");
        string trace = Path.Combine(Path.GetTempPath(), $"fusedattention-guard-pages-{Environment.ProcessId}.txt");
        for (int seed = firstSeed; seed < firstSeed + CasesPerTest; seed++)
        {
            var generator = new ProblemGenerator(seed);
            Problem problem = generator.NextProblem();
            problem = problem with { Execution = problem.Execution with { InstructionSet = variant } };
            Arrangement arrangement = generator.NextArrangement(placement);
            File.WriteAllText(trace, $"{problem}\n{arrangement}\n");
            Caller.Run(problem, arrangement).AssertClose(problem, CpuLimits.Of(problem));
        }

        File.Delete(trace);
    }

    /// <summary>Every dimension from 1 to 80 and every small number of keys: the tails of vector loops, at the last byte of the memory.</summary>
    [Slow]
    [Theory]
    [InlineData(Placement.GuardAfter)]
    [InlineData(Placement.GuardBefore)]
    public void Tails_of_every_length_stay_in_bounds(Placement placement)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Guard pages are mapped on Linux only.");
        (AttentionElementType Query, AttentionElementType KeyValue)[] types =
        [
            (AttentionElementType.Float32, AttentionElementType.Float32),
            (AttentionElementType.Float16, AttentionElementType.Float16),
            (AttentionElementType.BFloat16, AttentionElementType.BFloat16),
            (AttentionElementType.Float32, AttentionElementType.Float16),
        ];
        for (int dim = 1; dim <= 80; dim++)
        {
            var generator = new ProblemGenerator(50_000 + dim);
            (AttentionElementType query, AttentionElementType keyValue) = types[dim % types.Length];
            foreach (int queries in (int[])[1, 1 + (dim % 20)])
            {
                Problem problem = generator.Fill(new Problem
                {
                    Name = $"dim {dim}",
                    Form = CallForm.Dense,
                    QueryType = query,
                    KeyValueType = keyValue,
                    Heads = 2,
                    KeyValueHeads = 1,
                    KeyDim = dim,
                    ValueDim = 81 - dim,
                    QueryLengths = [queries],
                    KeyLengths = [1 + (dim % 35)],
                    KeyCapacity = 1 + (dim % 35),
                    Query = [],
                    Key = [],
                    Value = [],
                });
                foreach (CpuInstructionSet variant in Variants.Supported)
                {
                    Problem forced = problem with { Options = AttentionOptions.Default, Execution = new CpuExecution { InstructionSet = variant, MaxDegreeOfParallelism = 1 } };
                    Caller.Run(forced, new Arrangement { Placement = placement }).AssertClose(forced, CpuLimits.Of(forced));
                }
            }
        }
    }
}
