namespace FusedAttention.Metal.Emulation;

/// <summary>How the emulator's code is made: with what it can notice, and how fast it then is.</summary>
internal enum EmulatorFlavour
{
    /// <summary>Optimised, without instrumentation: whole cases. -O2 takes a quarter longer to compile than -O1, and runs are no faster.</summary>
    Plain,

    /// <summary>What <see cref="Plain"/> is, with kernels that are not optimised, which changes no bit: for libraries that run a few small launches, and take longer to compile than they run.</summary>
    Brief,

    /// <summary>Under <c>-ffast-math</c>, with all that the optimiser concludes from it, for what must not depend on infinities and NaN. Metal's default mode.</summary>
    FastMath,

    /// <summary>Address and undefined-behaviour sanitizers: reads and writes out of bounds, shifts, misaligned vectors, overflow.</summary>
    Address,

    /// <summary>Memory sanitizer: what is read before it is written.</summary>
    Memory,
}

/// <summary>Options of the compiler for each flavour.</summary>
internal static class EmulatorFlavours
{
    /// <summary>For the runtime, and for the kernels until their text has been edited.</summary>
    public static string[] Options(this EmulatorFlavour flavour) => flavour switch
    {
        EmulatorFlavour.Plain or EmulatorFlavour.Brief => ["-O1", "-ffp-contract=off"],
        EmulatorFlavour.FastMath => ["-O2", "-ffast-math"],
        EmulatorFlavour.Address => ["-O1", "-gline-tables-only", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize=function,vptr", "-fno-sanitize-recover=all"],
        EmulatorFlavour.Memory => ["-O1", "-gline-tables-only", "-ffp-contract=off", "-fsanitize=memory", "-fsanitize-memory-track-origins=1"],
        _ => throw new ArgumentOutOfRangeException(nameof(flavour), flavour, null),
    };

    /// <summary>
    /// What is added when the edited text becomes machine code. Without the optimiser a library compiles in 0.2 s of processor time instead of 0.4, and runs for longer: tests of functions, each of them a library of its own, take 51 s
    /// instead of 63, but the reference set 81 instead of 51, and sanitizers 58 instead of 34.
    /// </summary>
    public static string[] KernelOptions(this EmulatorFlavour flavour) => flavour == EmulatorFlavour.Brief ? ["-O0"] : [];

    /// <summary>For linking. Without a sanitizer statically: a process starts in half the time.</summary>
    public static string[] LinkOptions(this EmulatorFlavour flavour) => flavour is EmulatorFlavour.Plain or EmulatorFlavour.Brief or EmulatorFlavour.FastMath ? ["-static"] : [];
}
