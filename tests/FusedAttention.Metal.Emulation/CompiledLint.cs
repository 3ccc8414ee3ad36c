using System.Collections.Concurrent;
using System.Globalization;
using System.Text.RegularExpressions;

namespace FusedAttention.Metal.Emulation;

/// <summary>Rules that need a compiler: warnings, pointers without an address space, recursion, private arrays that do not stay in registers.</summary>
internal static partial class CompiledLint
{
    /// <summary>Conversions must be written out, and C++17 is not what Metal compiles. Signs may change: sizes and positions meet indices everywhere.</summary>
    private static readonly string[] Warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wno-sign-conversion", "-Wno-sign-compare", "-Wpre-c++17-compat", "-Wvla", "-Wdouble-promotion"];

    private static readonly ConcurrentDictionary<string, Lazy<string>> Optimised = new(StringComparer.Ordinal);

    /// <summary>What is wrong with a library's text, a line each.</summary>
    public static string[] Check(string text)
    {
        EmulatorLibrary library = EmulatorBuild.Get(text, EmulatorFlavour.Plain);
        var problems = new List<string>();
        (string module, string warnings) = CompileWithAddressSpaces(library);
        problems.AddRange(Warning().Matches(warnings).Select(match => match.Value.Trim()));
        problems.AddRange(FindUnqualified(module));
        if (library.Module.FindRecursion() is string function) problems.Add($"{function} calls itself");
        problems.AddRange(library.Kernels.SelectMany(kernel => FindArrays(library, kernel.Name)));
        return [.. problems];
    }

    /// <summary>Arrays, structs and vectors that are memory after optimisation: some index was no constant.</summary>
    public static IEnumerable<string> FindArrays(EmulatorLibrary library, string kernel)
    {
        string text = Optimise(library);
        HashSet<string> reached = KernelModule.Parse(text).Reach(kernel);
        string? function = null;
        foreach (string line in text.Split('\n'))
        {
            if (line.StartsWith("define ", StringComparison.Ordinal)) function = DefinedName().Match(line).Groups["symbol"].Value;
            else if (line is "}") function = null;
            if (function is null || !reached.Contains(function)) continue;
            Match match = Alloca().Match(line);
            if (match.Success) yield return $"kernel {kernel}: {match.Groups["type"].Value} in {function} does not stay in registers: a loop over it is not unrolled, or an index is no constant";
        }
    }

    private static string Optimise(EmulatorLibrary library) => Optimised.GetOrAdd(library.Folder, static folder => new Lazy<string>(() =>
    {
        string output = Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"optimised.{Environment.ProcessId}.ll"));
        try
        {
            EmulatorToolchain.Compile(folder, [EmulatorToolchain.Processor, "-O2", "-Wno-override-module", "-S", "-emit-llvm", "module.ll", "-o", output]);
            return File.ReadAllText(output);
        }
        finally
        {
            File.Delete(output);
        }
    })).Value;

    /// <summary>
    /// With address spaces numbered apart as a GPU has them, a pointer whose declaration names none is one of the generic space, 4; Metal has no such space. Lines
    /// of the functions come with it, so that the shim's own can be told from the text's.
    /// </summary>
    private static (string Module, string Warnings) CompileWithAddressSpaces(EmulatorLibrary library)
    {
        string output = Path.Combine(library.Folder, string.Create(CultureInfo.InvariantCulture, $"spaces.{Environment.ProcessId}.{Environment.CurrentManagedThreadId}.ll"));
        try
        {
            string warnings = EmulatorToolchain.Compile(library.Folder,
                ["-x", "cl", .. EmulatorBuild.Language, .. EmulatorBuild.IncludeOptions, .. Warnings, "-fno-caret-diagnostics", "-gline-tables-only", "-Xclang", "-disable-llvm-passes", "-Xclang", "-ffake-address-space-map", "-S", "-emit-llvm", "library.metal", "-o", output]);
            return (File.ReadAllText(output), warnings);
        }
        finally
        {
            File.Delete(output);
        }
    }

    private static IEnumerable<string> FindUnqualified(string module)
    {
        var files = FileEntry().Matches(module).ToDictionary(match => match.Groups["id"].Value, match => match.Groups["name"].Value, StringComparer.Ordinal);
        var places = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (Match match in Subprogram().Matches(module))
        {
            if (files.TryGetValue(match.Groups["file"].Value, out string? file) && file.EndsWith(".metal", StringComparison.Ordinal))
            {
                places[match.Groups["id"].Value] = $"{file}:{match.Groups["line"].Value}: {match.Groups["name"].Value}";
            }
        }

        string? place = null;
        foreach (string line in module.Split('\n'))
        {
            if (line.StartsWith("define ", StringComparison.Ordinal))
            {
                place = places.GetValueOrDefault(DebugId().Match(line).Groups["id"].Value);
                if (place is not null && line.Contains("addrspace(4)", StringComparison.Ordinal)) yield return $"{place}: an argument, a result or an object of a method has no address space";
            }
            else if (place is not null && line.Contains("= alloca ptr addrspace(4)", StringComparison.Ordinal))
            {
                yield return $"{place}: a local pointer or reference has no address space";
            }
        }
    }

    private const RegexOptions Options = RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant | RegexOptions.Multiline;

    [GeneratedRegex(@"^[^\n]*warning: [^\n]*$", Options, 5000)]
    private static partial Regex Warning();

    [GeneratedRegex(@"@""?(?<symbol>[\w.$]+)""?\(", Options, 5000)]
    private static partial Regex DefinedName();

    [GeneratedRegex(@"= alloca (?<type>\[.*\]|%[\w.]+|<.*>|\{.*\})", Options, 5000)]
    private static partial Regex Alloca();

    [GeneratedRegex(@"^!(?<id>\d+) = !DIFile\(filename: ""(?<name>[^""]*)""", Options, 5000)]
    private static partial Regex FileEntry();

    [GeneratedRegex(@"^!(?<id>\d+) = distinct !DISubprogram\(name: ""(?<name>[^""]*)"", [^\n]*?file: !(?<file>\d+), line: (?<line>\d+)", Options, 5000)]
    private static partial Regex Subprogram();

    [GeneratedRegex(@"!dbg !(?<id>\d+)", Options, 5000)]
    private static partial Regex DebugId();
}
