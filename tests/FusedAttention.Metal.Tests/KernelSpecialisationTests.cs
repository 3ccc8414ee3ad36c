using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Every library that the tests compile: warnings, address spaces, recursion, arrays that leave the registers, and the budgets of its kernels.</summary>
public sealed class KernelSpecialisationTests(ITestOutputHelper output)
{
    public static TheoryData<string> Libraries() => [.. Functions().Select(function => function.LibraryKey).Distinct(StringComparer.Ordinal)];

    [Slow]
    [Theory]
    [MemberData(nameof(Libraries))]
    public void Libraries_keep_to_the_rules_and_budgets(string key)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        string text = KernelSource.Compose(Functions().First(function => string.Equals(function.LibraryKey, key, StringComparison.Ordinal)));
        string[] problems = [.. TextLint.Check("library", text), .. CompiledLint.Check(text)];
        Assert.True(problems.Length == 0, string.Join('\n', problems));
        EmulatorLibrary library = EmulatorBuild.Get(text, EmulatorFlavour.Plain);
        foreach (KernelSignature kernel in library.Kernels)
        {
            int threadgroup = library.ThreadgroupBytes(kernel.Name), registers = library.PrivateBytes(kernel.Name);
            output.WriteLine($"{kernel.Name}: {threadgroup} bytes of threadgroup memory, {registers} bytes of arrays a thread");
            Assert.InRange(threadgroup, 0, TileTable.MemoryBudget);
            // 128 registers of 4 bytes and a little: the widest rows of 32-bit elements spill some (TileTable), and what is known of a row is 60 bytes.
            Assert.InRange(registers, 0, (130 * sizeof(float)) + 60);
            Assert.All(kernel.Buffers, argument => Assert.InRange(argument.Slot!.Value, 0, LaunchCheck.SlotCount - 1));
        }
    }

    private static IEnumerable<KernelFunction> Functions()
    {
        foreach ((AttentionElementType query, AttentionElementType keyValue, int keyDim, int valueDim) in ((AttentionElementType, AttentionElementType, int, int)[])[.. MetalProblems.Specialisations, .. MetalProblems.IsWhole ? MetalEightBitTests.Specialisations : MetalEightBitTests.Specialisations[1..]])
        {
            var problem = new AttentionProblem { QueryType = query, KeyValueType = keyValue, KeyDim = keyDim, ValueDim = valueDim };
            if (TileTable.Prefill(keyDim, valueDim, query, keyValue) is not null) yield return KernelLibrary.Main(AttentionKernel.Prefill, KernelTraits.Of(problem, isAligned: true));
            if (TileTable.Decode(keyDim, valueDim, keyValue) is not null) yield return KernelLibrary.Main(AttentionKernel.Decode, KernelTraits.Of(problem, isAligned: true));
            yield return KernelLibrary.Main(AttentionKernel.Plain, KernelTraits.Of(problem, isAligned: true));
        }

        foreach (KernelFunction function in KernelCatalog.Libraries().Where(static function => function.HasFunctions && (MetalProblems.IsWhole || !CodeText.IsIn(function)))) yield return function;
        foreach (AttentionElementType type in Elements.Wide)
        {
            yield return MergePlan.Function(type, AttentionElementType.Float32, hasSinks: false, hasLogSumExp: false);
        }

        foreach (AttentionElementType codes in (AttentionElementType[])[AttentionElementType.Int8, AttentionElementType.Float8E4M3])
        {
            foreach (KernelFunction function in CachePlan.Functions(new CacheShape(codes, 1, 1, 1)).Where(static function => function.Family == KernelFamily.Quantize).Take(MetalProblems.IsWhole ? 3 : 1)) yield return function;
        }

        foreach (string element in (string[])["uchar", "ushort", "uint"]) yield return new KernelFunction(KernelFamily.Cache, "append", [new SourceDefinition("ELEMENT_T", element)], []);
        yield return new KernelFunction(KernelFamily.LaneMap, "lane_map", [], []);
    }
}
