using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>
/// The attention kernels under sanitizers (out of bounds, undefined behaviour, reads of what nobody wrote), and with the fast arithmetic that is Metal's default: few
/// and small problems, because each flavour is a compilation of its own and ten times slower.
/// </summary>
[Slow]
public sealed class MetalSanitizerTests
{
    private static readonly (AttentionElementType Query, AttentionElementType KeyValue, int KeyDim, int ValueDim)[] Specialisations =
    [
        (AttentionElementType.Float16, AttentionElementType.Float16, 64, 64),
        (AttentionElementType.Float32, AttentionElementType.BFloat16, 80, 40),
        (AttentionElementType.Float16, AttentionElementType.Float16, 232, 216),
    ];

    public static TheoryData<string, int> Cases()
    {
        var cases = new TheoryData<string, int>();
        foreach (EmulatorFlavour flavour in Enum.GetValues<EmulatorFlavour>())
        {
            if (flavour is EmulatorFlavour.Plain or EmulatorFlavour.Brief) continue;
            for (int seed = 1; seed <= 8; seed++) cases.Add(flavour.ToString(), seed);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Kernels_are_sound(string name, int seed)
    {
        var flavour = Enum.Parse<EmulatorFlavour>(name);
        var generator = new ProblemGenerator(220_000 + seed) { Specialisations = [Specialisations[seed % Specialisations.Length]], MostWork = 300_000 };
        Problem problem = generator.NextProblem();
        Solution solution = RowByRow.Solve(problem);
        MetalProblems.Run(problem, generator.NextArrangement(), forced: null, flavour).AssertClose(problem, solution);
        foreach (AttentionKernel family in (AttentionKernel[])[AttentionKernel.Plain, AttentionKernel.Prefill, AttentionKernel.Decode])
        {
            if (!MetalReferenceTests.Takes(family, problem.KeyDim, problem.ValueDim, problem.KeyValueType)) continue;
            MetalProblems.Run(problem, generator.NextArrangement(), family, flavour).AssertClose(problem, solution);
        }
    }

    /// <summary>Score and mask functions, whose tables end with their last entries. Not with fast arithmetic: infinities are numbers to them, which is why the library asks for safe math. Each in one kernel that takes its dimensions, or in all of them if everything is asked for.</summary>
    [Theory]
    [InlineData(nameof(EmulatorFlavour.Address), 1, nameof(AttentionKernel.Prefill))]
    [InlineData(nameof(EmulatorFlavour.Address), 2, nameof(AttentionKernel.Plain))]
    [InlineData(nameof(EmulatorFlavour.Address), 3, nameof(AttentionKernel.Decode))]
    [InlineData(nameof(EmulatorFlavour.Address), 4, nameof(AttentionKernel.Decode))]
    [InlineData(nameof(EmulatorFlavour.Memory), 5, nameof(AttentionKernel.Prefill))]
    [InlineData(nameof(EmulatorFlavour.Memory), 6, nameof(AttentionKernel.Decode))]
    [InlineData(nameof(EmulatorFlavour.Memory), 7, nameof(AttentionKernel.Plain))]
    public void Functions_are_sound(string name, int seed, string kernel)
    {
        var generator = new ProblemGenerator(225_000 + seed) { Specialisations = [Specialisations[seed % Specialisations.Length]], MostWork = 300_000 };
        Problem problem = TestFunctions.Add(generator, generator.NextProblem());
        Solution solution = RowByRow.Solve(problem);
        foreach (AttentionKernel family in MetalProblems.IsWhole ? Enum.GetValues<AttentionKernel>() : [Enum.Parse<AttentionKernel>(kernel)])
        {
            if (!MetalReferenceTests.Takes(family, problem.KeyDim, problem.ValueDim, problem.KeyValueType)) continue;
            MetalProblems.Run(problem, generator.NextArrangement(), family, Enum.Parse<EmulatorFlavour>(name)).AssertClose(problem, solution);
        }
    }

    /// <summary>Keys and values of 8 bits, whose scales end with their sequences: a prefill under one of them, or every kernel under each if everything is asked for.</summary>
    [Theory]
    [InlineData(nameof(EmulatorFlavour.Address), nameof(AttentionKernel.Prefill))]
    [InlineData(nameof(EmulatorFlavour.Memory), null)]
    [InlineData(nameof(EmulatorFlavour.FastMath), null)]
    public void Codes_are_sound(string name, string? kernel)
    {
        if (kernel is null) Assert.SkipUnless(MetalProblems.IsWhole, "A library of its own: set FUSEDATTENTION_EMULATED_ALL=1.");
        foreach (AttentionKernel family in MetalProblems.IsWhole ? Enum.GetValues<AttentionKernel>() : [Enum.Parse<AttentionKernel>(kernel!)])
        {
            for (int seed = 1; seed <= 4; seed++)
            {
                var generator = new ProblemGenerator(226_000 + seed) { Specialisations = [Specialisations[0]], MostWork = 200_000, Form = (CallForm)(seed % 3) };
                Problem problem = HiddenScales.OfTokens(generator, generator.WithEightBits(generator.NextProblem(), AttentionElementType.Float8E4M3));
                MetalProblems.Run(problem, generator.NextArrangement(), family, Enum.Parse<EmulatorFlavour>(name)).AssertClose(problem, RowByRow.Solve(problem));
            }
        }
    }

    /// <summary>The kernel that quantizes: rows and slots that end where they end. As many codes as fill words, of which the emulator knows whether they were written.</summary>
    [Theory]
    [InlineData(nameof(EmulatorFlavour.Address))]
    [InlineData(nameof(EmulatorFlavour.Memory))]
    public unsafe void Quantizing_is_sound(string name)
    {
        if (name is nameof(EmulatorFlavour.Address)) Assert.SkipUnless(MetalProblems.IsWhole, "A library of its own: set FUSEDATTENTION_EMULATED_ALL=1.");
        const int Tokens = 4, Heads = 5, KeyDim = 33, ValueDim = 7;
        using EmulatedRuntime runtime = MetalProblems.Start(Enum.Parse<EmulatorFlavour>(name));
        using var transient = new TransientMemory(runtime);
        Part keys = New(KeyDim), values = New(ValueDim);
        MemoryPlace slots = transient.Take(Tokens * sizeof(long));
        for (int i = 0; i < Tokens; i++) ((long*)slots.Memory.Pointer)[i] = Tokens - 1 - i;
        LaunchList launches = CachePlan.NewLaunches();
        CachePlan.Append(
            new(AttentionElementType.Float8E4M3, Heads, KeyDim, ValueDim), AttentionElementType.Float32, new(keys.Rows, Heads * KeyDim, KeyDim), new(values.Rows, Heads * ValueDim, ValueDim), new(keys.Codes, keys.Scales),
            new(values.Codes, values.Scales), slots, Tokens, launches);
        runtime.Submit(launches[0]);
        Check(keys, KeyDim);
        Check(values, ValueDim);

        Part New(int dim)
        {
            MemoryPlace rows = transient.Take(Tokens * Heads * dim * sizeof(float));
            new ProblemGenerator(dim).Numbers(Tokens * Heads * dim, 3, AttentionElementType.Float32).CopyTo(new Span<float>(rows.Memory.Pointer, Tokens * Heads * dim));
            return new(rows, transient.Take(Tokens * Heads * dim), transient.Take(Tokens * Heads * sizeof(float)));
        }

        static void Check(Part part, int dim)
        {
            byte[] codes = new byte[dim];
            for (int row = 0; row < Tokens * Heads; row++)
            {
                float scale;
                fixed (byte* first = codes) Quantization.Row(AttentionElementType.Float8E4M3, (float*)part.Rows.Memory.Pointer + (row * dim), dim, first, &scale);
                int slot = ((Tokens - 1 - (row / Heads)) * Heads) + (row % Heads);
                Assert.Equal(codes, new Span<byte>(part.Codes.Memory.Pointer + (slot * dim), dim).ToArray());
                Assert.Equal(scale, ((float*)part.Scales.Memory.Pointer)[slot]);
            }
        }
    }

    /// <summary>Splits and their merge.</summary>
    [Theory]
    [InlineData(nameof(EmulatorFlavour.Address))]
    [InlineData(nameof(EmulatorFlavour.Memory))]
    [InlineData(nameof(EmulatorFlavour.FastMath))]
    public void Split_decodes_are_sound(string name)
    {
        Problem problem = new ProblemGenerator(77).Fill(new Problem
        {
            Name = "split decode",
            Form = CallForm.Paged,
            QueryType = AttentionElementType.Float16,
            KeyValueType = AttentionElementType.Float16,
            Heads = 6,
            KeyValueHeads = 2,
            KeyDim = 64,
            ValueDim = 64,
            BlockSize = 16,
            QueryLengths = [1, 2],
            KeyLengths = [600, 300],
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions { Mask = AttentionMask.CausalWindow(500), SinkLogits = [0, 1, 2, 3, 4, float.NegativeInfinity] },
        });
        Solution solution = RowByRow.Solve(problem);
        MetalProblems.Run(problem, null, AttentionKernel.Decode, Enum.Parse<EmulatorFlavour>(name)).AssertClose(problem, solution);
        MetalProblems.Run(problem, null, AttentionKernel.Plain, Enum.Parse<EmulatorFlavour>(name)).AssertClose(problem, solution);
    }

    /// <summary>Keys or values: new rows, and the planes of a cache.</summary>
    private readonly record struct Part(MemoryPlace Rows, MemoryPlace Codes, MemoryPlace Scales);
}
