using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Text.RegularExpressions;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>This test executable, run again with other switches of the runtime: whatever the processor, every fallback is tested.</summary>
internal static partial class ChildProcess
{
    /// <summary>Set in children, so that they do not start children of their own.</summary>
    private const string Marker = "FUSEDATTENTION_TEST_CHILD";

    /// <summary>Set in children whose runtime hides instructions: the variant that must run there.</summary>
    public const string ExpectedVariant = "FUSEDATTENTION_EXPECTED_CPU";

    public static bool IsChild => Environment.GetEnvironmentVariable(Marker) is not null;

    /// <summary>Runs all tests of some classes; fails unless the child succeeds.</summary>
    /// <returns>How many tests passed, and all the child wrote.</returns>
    public static (int Passed, string Output) RunClasses((string Name, string Value)[] environment, params Type[] classes)
    {
        string executable = Environment.ProcessPath ?? throw new InvalidOperationException("The path of this process is not known.");
        var start = new ProcessStartInfo(executable) { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        // Under "dotnet X.Tests.dll" the process is the host, and the assembly its first argument.
        if (Path.GetFileNameWithoutExtension(executable).Equals("dotnet", StringComparison.OrdinalIgnoreCase))
        {
            start.ArgumentList.Add((Assembly.GetEntryAssembly() ?? throw new InvalidOperationException("This process has no assembly of its own.")).Location);
        }

        start.ArgumentList.Add("--filter-class");
        foreach (Type type in classes) start.ArgumentList.Add(type.FullName!);
        foreach (string argument in (string[])["--no-ansi", "--no-progress", "--output", "Detailed"]) start.ArgumentList.Add(argument);
        start.Environment.Remove("FUSEDATTENTION_CPU");
        start.Environment[Marker] = "1";
        foreach ((string name, string value) in environment) start.Environment[name] = value;

        using Process child = Process.Start(start) ?? throw new InvalidOperationException($"{executable} did not start.");
        Task<string> errors = child.StandardError.ReadToEndAsync();
        string output = child.StandardOutput.ReadToEnd();
        output += errors.GetAwaiter().GetResult();
        child.WaitForExit();
        string described = string.Join(' ', environment.Select(e => $"{e.Name}={e.Value}"));
        Match succeeded = SucceededLine().Match(output);
        if (child.ExitCode != 0 || !succeeded.Success) Assert.Fail($"The child with {described} ended with exit code {child.ExitCode}:\n{Shorten(output)}");
        return (int.Parse(succeeded.Groups["count"].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture), output);
    }

    /// <summary>
    /// Runs all tests of some classes where a switch of the runtime hides instructions. One of them is to write "variant that ran: " and a name: that of the variant expected.
    /// </summary>
    /// <returns>How many tests passed.</returns>
    public static int RunWithout(string variable, CpuInstructionSet expected, ITestOutputHelper log, params Type[] classes)
    {
        Assert.SkipWhen(IsChild, "Children start no children.");
        (int passed, string text) = RunClasses([(variable, "0"), (ExpectedVariant, expected.ToString())], classes);
        Assert.Contains($"variant that ran: {expected}", text, StringComparison.Ordinal);
        log.WriteLine($"{variable}=0: {passed} tests passed on {expected}.");
        return passed;
    }

    private static string Shorten(string output)
    {
        string[] lines = [.. output.Split('\n').Where(line => !line.StartsWith("passed ", StringComparison.Ordinal))];
        return string.Join('\n', lines.Length <= 120 ? lines : [.. lines[..80], "...", .. lines[^40..]]);
    }

    [GeneratedRegex(@"^\s*succeeded: (?<count>\d+)", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, matchTimeoutMilliseconds: 5000)]
    private static partial Regex SucceededLine();
}
