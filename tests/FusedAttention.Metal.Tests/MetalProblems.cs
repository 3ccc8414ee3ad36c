using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Random problems for the Metal kernels, of a few element types and dimensions: each combination is a library to compile.</summary>
internal static class MetalProblems
{
    /// <summary>
    /// Every pair of types; dimensions with tiles of 32, 16 and 8 keys, with two blocks of rows a simdgroup and two simdgroups for the dimensions of each, for odd numbers of steps and fragments too; with 16, 8, 4 and 2 lanes a
    /// key, with some lanes that have nothing in the last turn of keys and of values (88 and 72), and some that only the plain kernel takes.
    /// </summary>
    public static readonly (AttentionElementType Query, AttentionElementType KeyValue, int KeyDim, int ValueDim)[] Specialisations =
    [
        (AttentionElementType.Float32, AttentionElementType.Float32, 64, 64),
        (AttentionElementType.Float16, AttentionElementType.Float16, 64, 64),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16, 128, 128),
        (AttentionElementType.Float32, AttentionElementType.Float16, 192, 128),
        (AttentionElementType.Float32, AttentionElementType.BFloat16, 80, 40),
        (AttentionElementType.Float32, AttentionElementType.Float32, 256, 256),
        (AttentionElementType.Float16, AttentionElementType.Float16, 100, 33),
        (AttentionElementType.Float16, AttentionElementType.Float16, 232, 216),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16, 88, 72),
    ];

    /// <summary>Whether tests take all problems and libraries that they have, with FUSEDATTENTION_EMULATED_ALL=1, or the part of them that a run in CI has the time for: a library with functions of its own takes 0.5 s to compile.</summary>
    public static readonly bool IsWhole = Environment.GetEnvironmentVariable("FUSEDATTENTION_EMULATED_ALL") is "1";

    public static ProblemGenerator Generator(int seed) => new(seed) { Specialisations = Specialisations };

    /// <summary>Lanes and threadgroups in every order that the emulator has; what they write must agree bit for bit.</summary>
    public static readonly string[] AllOrders = ["forward", "reverse", "random"];

    /// <summary>The emulator, or the end of a test where there is none. If nothing else is asked for, one order, which takes a third of the time; under sanitizers all of them.</summary>
    public static EmulatedRuntime Start(EmulatorFlavour flavour = EmulatorFlavour.Plain, params string[] orders)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        if (orders.Length == 0) orders = flavour is EmulatorFlavour.Plain or EmulatorFlavour.Brief ? ["random"] : AllOrders;
        return new EmulatedRuntime(flavour) { Orders = [.. orders] };
    }

    /// <summary>Runs a problem on the emulator.</summary>
    public static CallResult Run(Problem problem, Arrangement? arrangement = null, AttentionKernel? forced = null, EmulatorFlavour flavour = EmulatorFlavour.Plain)
    {
        using EmulatedRuntime runtime = Start(flavour);
        return Caller.Run(problem, arrangement, new MetalCaller(runtime, forced));
    }
}
