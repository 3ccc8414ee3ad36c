namespace FusedAttention.Metal.Emulation;

/// <summary>How the emulator's code is made: with what it can notice, and how fast it then is.</summary>
internal enum EmulatorFlavour
{
    /// <summary>Optimised, without instrumentation: whole cases. -O2 takes a quarter longer to compile than -O1, and runs are no faster.</summary>
    Plain,

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
    /// <summary>For the kernels and for the runtime.</summary>
    public static string[] Options(this EmulatorFlavour flavour) => flavour switch
    {
        EmulatorFlavour.Plain => ["-O1", "-ffp-contract=off"],
        EmulatorFlavour.FastMath => ["-O2", "-ffast-math"],
        EmulatorFlavour.Address => ["-O1", "-gline-tables-only", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize=function,vptr", "-fno-sanitize-recover=all"],
        EmulatorFlavour.Memory => ["-O1", "-gline-tables-only", "-ffp-contract=off", "-fsanitize=memory", "-fsanitize-memory-track-origins=1"],
        _ => throw new ArgumentOutOfRangeException(nameof(flavour), flavour, null),
    };

    /// <summary>For linking. Without a sanitizer statically: a process starts in half the time.</summary>
    public static string[] LinkOptions(this EmulatorFlavour flavour) => flavour is EmulatorFlavour.Plain or EmulatorFlavour.FastMath ? ["-static"] : [];
}
