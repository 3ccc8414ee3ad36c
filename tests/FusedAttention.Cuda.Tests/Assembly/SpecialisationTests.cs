using System.Collections.Concurrent;
using System.Globalization;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Scores.Tracing;
using Xunit;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>
/// Kernels through NVIDIA's assembler, for every pair of things that they are specialised for: nothing is refused or warned about, nothing leaves the registers, and as many blocks fit a multiprocessor as
/// the plan counts on. FUSEDATTENTION_PTXAS_ALL=1 has all features one by one, for each kernel, pair of types and dimensions.
/// </summary>
[Slow]
public sealed class SpecialisationTests(ITestOutputHelper output)
{
    private const int MostSpecialisations = 60;
    private const int RegistersOfMultiprocessor = 65536;

    private static readonly CudaDeviceDescription Hopper = new(0, "sm_90a", 9, 0, 132, 232448, 80L << 30, 13000);
    private static readonly CudaDeviceDescription Ampere = new(0, "sm_80", 8, 0, 108, 166912, 40L << 30, 13000);

    /// <summary>Less shared memory, so other tiles.</summary>
    private static readonly CudaDeviceDescription Small = new(0, "sm_86", 8, 6, 84, 101376, 24L << 30, 13000);

    /// <summary>What a thread may spill, in bytes of stores, loads and stack together: nothing, but for rows whose scores are looked up, beyond 128 dimensions.</summary>
    private static int AllowedSpills(Specialisation specialisation)
    {
        return specialisation.Kernel switch
        {
            AttentionKernel.Prefill when LooksUp(specialisation) && specialisation.Traits.ValueDim > 128 => 64,
            AttentionKernel.Decode when LooksUp(specialisation) && specialisation.Traits.KeyDim > 128 => 256,
            _ => 0,
        };
    }

    [Fact]
    public void Attention_kernels_assemble_without_spilling()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        bool isWhole = Environment.GetEnvironmentVariable("FUSEDATTENTION_PTXAS_ALL") is "1";
        Specialisation[] cover = isWhole ? [.. Specialisation.All(Hopper)] : [.. Specialisation.Cover(MostSpecialisations, Hopper)];
        CudaDeviceDescription[] others = [Ampere, Small];
        Assemble(cover.SelectMany((specialisation, i) =>
            ((CudaDeviceDescription[])[Hopper, others[i % 2]]).Where(device => IsTaken(specialisation, device)).Select(device => (device, specialisation.On(device).Function, specialisation.On(device).Blocks, AllowedSpills(specialisation)))));
    }

    /// <summary>The library's own functions: in the kernels of warps for every dimension that is common, and in that of warpgroups.</summary>
    [Fact]
    public void Functions_assemble_without_spilling()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        (int, int)[] dims = [(64, 64), (128, 128)];
        (CudaDeviceDescription Device, PrefillForm Form, int Queries)[] kernels = [(Hopper, PrefillForm.Warpgroups, 100), (Hopper, PrefillForm.Warps, 100), (Ampere, PrefillForm.Warps, 1)];
        Assemble(ReadyMadeFunctions.All.SelectMany(function => dims.SelectMany(dim => kernels.Select(at => (
            at.Device, ReadyMadeFunctions.KernelOf(function, dim, at.Device, at.Form, at.Queries), ReadyMadeFunctions.BlocksOf(function, dim, at.Device, at.Form, at.Queries), AllowedOf(function, dim, at.Form, at.Queries))))));

        // By warpgroups the assemblers of CUDA 12.4 and 13 have one register too few at D = 128 here and there, and with 64 columns of a tanh side by side up to seven.
        // By warps the bits of a prefill's mask function alone are two registers more than there are at D = 128; the tile without spills is slower by 1.26 to 1.45.
        static int AllowedOf(AttentionOptions function, (int Key, int Value) dims, PrefillForm form, int queries) => form != PrefillForm.Warpgroups
            ? queries > 1 && dims.Value == 128 && function is { MaskFunction: not null, ScoreFunction: null } ? 256 : 0
            : function.ScoreFunction?.Graph.Form.Has(ScoreOperation.Tanh) == true ? 128 : 16;
    }

    /// <summary>Prefills that compute a part of a function once a tile.</summary>
    [Fact]
    public void Functions_with_numbers_of_a_tile_assemble_without_spilling()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        (int, int)[] dims = [(64, 64), (128, 128), (256, 256)];
        PrefillForm[] forms = [PrefillForm.Warpgroups, PrefillForm.Warps];
        bool isWhole = Environment.GetEnvironmentVariable("FUSEDATTENTION_PTXAS_ALL") is "1";
        Assemble(ReadyMadeFunctions.WithTileNumbers.SelectMany((function, i) => dims.Where((_, n) => isWhole || n == i % dims.Length).SelectMany(dim => forms.Select(form => (
            Hopper, ReadyMadeFunctions.KernelOf(function, dim, Hopper, form, 100, ReadyMadeFunctions.Heads), ReadyMadeFunctions.BlocksOf(function, dim, Hopper, form, 100), AllowedOf(dim, form))))));

        // Three warpgroups keep three words of an item on the stack beside distances in a grid, and read them where it begins and where rows get a new maximum. A tile of two is without, and slower (an H100, 8k: 1,530 us, three 1,439).
        // By warps the same at D = 128 is 12 bytes beyond the registers.
        static int AllowedOf((int Key, int Value) dims, PrefillForm form) => dims.Value == (form == PrefillForm.Warpgroups ? 64 : 128) ? 80 : 0;
    }

    /// <summary>What asks the library's mask functions ahead of a prefill.</summary>
    [Fact]
    public void Maps_of_tiles_assemble_without_spilling()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        (CudaDeviceDescription Device, PrefillForm Form)[] prefills = [(Hopper, PrefillForm.Warpgroups), (Ampere, PrefillForm.Warps)];
        (CudaDeviceDescription, KernelFunction, int, int)[] maps =
        [
            .. from options in ReadyMadeFunctions.All
               from at in prefills
               let map = ReadyMadeFunctions.MapOf(options, (64, 64), at.Device, at.Form)
               where map is not null
               select (at.Device, map, TileMapKernel.BlocksTogether, 0),
        ];
        Assert.Equal(2 * ReadyMadeFunctions.All.Count(static options => options.MaskFunction is not null), maps.Length);
        Assemble(maps);
    }

    /// <summary>Whether scores have a mask or a bias.</summary>
    private static bool LooksUp(Specialisation specialisation) => specialisation.Traits.Has(CallFeatures.Mask | CallFeatures.Bias);

    [Fact]
    public void Kernels_of_merging_the_cache_and_its_tables_assemble_without_spilling()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        AttentionElementType[] types = Elements.Wide;
        Assemble(types.SelectMany(from => types.SelectMany(to => ((KernelFunction[])[MergePlan.Function(from, to), CachePlan.Function(from, to)]).Select(
            (function, i) => (((int)from + (int)to + i) % 2 == 0 ? Hopper : Ampere, function, 1, 0)))).Append((Ampere, TablePlan.Function, 1, 0)));
    }

    [Fact]
    public void Cover_has_every_kernel_with_every_type_and_every_dimension_that_it_takes()
    {
        List<Specialisation> cover = Specialisation.Cover(MostSpecialisations, Hopper);
        Assert.InRange(cover.Count, 40, MostSpecialisations);
        Assert.Equal(cover.Count, cover.Distinct().Count());
        HashSet<(AttentionKernel, int, int, AttentionElementType)> all = [.. Specialisation.All(Hopper).Select(static s => (s.Kernel, s.Traits.KeyDim, s.Traits.ValueDim, s.Traits.QueryType))];
        Assert.True(all.Select(static s => (s.Item1, s.Item2, s.Item3)).ToHashSet().IsSubsetOf(cover.Select(static s => (s.Kernel, s.Traits.KeyDim, s.Traits.ValueDim))));
        Assert.True(all.Select(static s => (s.Item1, s.Item4)).ToHashSet().IsSubsetOf(cover.Select(static s => (s.Kernel, s.Traits.QueryType))));
    }

    private static bool IsTaken(Specialisation specialisation, CudaDeviceDescription device) => specialisation.Kernel switch
    {
        AttentionKernel.Prefill => TileTable.Prefill(specialisation.Traits.KeyDim, specialisation.Traits.ValueDim, device, specialisation.Traits.Features, score: specialisation.Traits.Score) is not null,
        AttentionKernel.Decode => TileTable.Decode(specialisation.Traits.KeyDim, specialisation.Traits.ValueDim, device) is not null,
        _ => true,
    };

    /// <summary>Two at a time: the assembler takes a processor each.</summary>
    private void Assemble(IEnumerable<(CudaDeviceDescription Device, KernelFunction Function, int Blocks, int AllowedSpills)> kernels)
    {
        var failures = new ConcurrentQueue<string>();
        var lines = new ConcurrentQueue<string>();
        Parallel.ForEach(kernels, new ParallelOptions { MaxDegreeOfParallelism = 2 }, item =>
        {
            (_, KernelFunction function, int blocks, int allowedSpills) = item;
            AssemblyReport report = PtxAssembler.Assemble(function, item.Device.Name);

            // Registers are given to warps, 8 of each lane at a time.
            int registers = (report.Registers + 7) / 8 * 8 * function.Threads * blocks;
            string line = string.Create(CultureInfo.InvariantCulture, $"{item.Device.Name} {report.Registers,4} registers, {function.Threads,4} threads, {blocks} blocks, {function.SharedBytes,7} bytes, {report.SpillBytes,4} spilled, {function.Text.Length / 1024,5} KB of text: {function.Label}");
            lines.Enqueue(line);
            if (report.ExitCode != 0) failures.Enqueue($"{line}: refused\n{report.Log}");
            else if (report.HasWarnings || report.Log.Contains("serialized", StringComparison.OrdinalIgnoreCase)) failures.Enqueue($"{line}: warnings\n{report.Log}");
            else if (report.SpillBytes > allowedSpills) failures.Enqueue($"{line}: {report.SpillBytes} bytes are spilled, or of the stack; {allowedSpills} are allowed\n{report.Log}");
            else if (report.Registers is < 1 or > 255 || registers > RegistersOfMultiprocessor) failures.Enqueue($"{line}: {registers} registers, and a multiprocessor has {RegistersOfMultiprocessor}\n{report.Log}");
        });
        foreach (string line in lines.Order(StringComparer.Ordinal)) output.WriteLine(line);
        if (!failures.IsEmpty) Assert.Fail($"{failures.Count} of {lines.Count} kernels:\n{string.Join("\n", failures)}");
    }
}
