namespace FusedAttention.Cuda.Planning;

/// <summary>A choice that an environment variable makes for all calls of the process: for timing one thing beside another.</summary>
internal static class ProcessChoice
{
    /// <summary>What the variable names; null where it is not set or empty.</summary>
    /// <param name="variable">The variable.</param>
    /// <param name="expected">Its values, in words.</param>
    /// <param name="of">The choice by its name; null for another name.</param>
    /// <exception cref="PlatformNotSupportedException">It is another name; the message has it.</exception>
    public static T? Of<T>(string variable, string expected, Func<string, T?> of)
        where T : struct
    {
        if (Environment.GetEnvironmentVariable(variable) is not { Length: > 0 } name) return null;
        return of(name) ?? throw new PlatformNotSupportedException($"{variable} is '{name}'; expected {expected}.");
    }
}
