using System.Globalization;
using System.Text.RegularExpressions;

namespace FusedAttention.Metal.Emulation;

/// <summary>Rules of docs/metal.md that can be read off the text: what clang accepts here, and Metal does not or takes for something else.</summary>
internal static partial class TextLint
{
    private static readonly (Regex Pattern, string Problem)[] Rules =
    [
        (LongLong(), "long long: Metal has none, long has 64 bits"),
        (Double(), "double: Metal has none"),
        (Words(), "Metal does not have this"),
        (Standard(), "std:: does not exist"),
        (Lambda(), "a lambda: from Metal 4 on only"),
        (AddressSpaces(), "OpenCL's name; Metal's are device, threadgroup, constant and thread"),
        (OpenCl(), "a function of OpenCL or of this compiler"),
        (VectorLiteral(), "a vector literal of OpenCL; Metal takes it for a cast of the last element"),
        (Swizzle(), "a swizzle of OpenCL"),
        (LongLongLiteral(), "a literal of type long long"),
    ];

    private static readonly HashSet<string> Attributes = new(StringComparer.Ordinal)
    {
        "buffer", "threadgroup", "function_constant", "max_total_threads_per_threadgroup",
        "thread_position_in_grid", "threadgroup_position_in_grid", "thread_position_in_threadgroup", "threads_per_threadgroup", "threadgroups_per_grid", "threads_per_grid",
        "thread_index_in_threadgroup", "thread_index_in_simdgroup", "simdgroup_index_in_threadgroup", "simdgroups_per_threadgroup", "threads_per_simdgroup",
    };

    private static readonly HashSet<string> Includes = new(StringComparer.Ordinal) { "<metal_stdlib>", "<metal_simdgroup_matrix>", "<metal_simdgroup>", "<metal_atomic>", "<metal_math>" };

    private static readonly HashSet<string> Pragmas = new(StringComparer.Ordinal) { "clang loop unroll(full)", "clang loop unroll(disable)", "unroll", "once" };

    /// <summary>What is wrong with a file, a line each; nothing if it keeps to the rules.</summary>
    public static string[] Check(string file, string text)
    {
        string code = WithoutComments(text);
        var problems = new List<string>();
        foreach ((Regex pattern, string problem) in Rules)
        {
            foreach (Match match in pattern.Matches(code)) Add(match, problem);
        }

        foreach (Match match in Attribute().Matches(code))
        {
            if (!Attributes.Contains(match.Groups["name"].Value)) Add(match, "an attribute that is not on the list");
        }

        foreach (Match match in Include().Matches(code))
        {
            if (!Includes.Contains(match.Groups["name"].Value)) Add(match, "a header that is not on the list");
        }

        foreach (Match match in Pragma().Matches(code))
        {
            if (!Pragmas.Contains(match.Groups["text"].Value.Trim())) Add(match, "a pragma that is not on the list");
        }

        CheckKernels();
        return [.. problems];

        void Add(Match match, string problem) => problems.Add(string.Create(
            CultureInfo.InvariantCulture, $"{file}:{code.AsSpan(0, match.Index).Count('\n') + 1}: {match.Value.Trim().ReplaceLineEndings(" ")}: {problem}"));

        void CheckKernels()
        {
            foreach (KernelSignature kernel in KernelText.ParseKernels(code))
            {
                foreach (KernelArgument argument in kernel.Buffers)
                {
                    if (argument.Slot is < 0 or >= LaunchCheck.SlotCount) problems.Add($"{file}: kernel {kernel.Name}: {argument.Name} has slot {argument.Slot}, there are {LaunchCheck.SlotCount}");
                }

                foreach (IGrouping<int?, KernelArgument> group in kernel.Buffers.GroupBy(argument => argument.Slot).Where(group => group.Count() > 1))
                {
                    problems.Add($"{file}: kernel {kernel.Name}: {string.Join(" and ", group.Select(argument => argument.Name))} have slot {group.Key}");
                }

                foreach (KernelArgument argument in kernel.Arguments.Where(argument => AutoType().IsMatch(argument.Type)))
                {
                    problems.Add($"{file}: kernel {kernel.Name}: {argument.Name} is auto");
                }
            }
        }
    }

    /// <summary>Comments and texts replaced by blanks, lines kept.</summary>
    public static string WithoutComments(string text) => Comment().Replace(text, match => Regex.Replace(match.Value, "[^\n]", " ", RegexOptions.None, TimeSpan.FromSeconds(5)));

    private const RegexOptions Options = RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant;

    [GeneratedRegex(@"//[^\n]*|/\*.*?\*/", Options | RegexOptions.Singleline, 5000)]
    private static partial Regex Comment();

    [GeneratedRegex(@"\blong\s+long\b", Options, 5000)]
    private static partial Regex LongLong();

    [GeneratedRegex(@"\bdouble\d?\b", Options, 5000)]
    private static partial Regex Double();

    [GeneratedRegex(@"\b(goto|noexcept|virtual|new|delete|try|catch|throw|thread_local|dynamic_cast|typeid|asm|size_t\s*\*\s*\(|printf|co_await|co_yield|concept|requires|typeof|decltype\s*\(\s*auto)\b", Options, 5000)]
    private static partial Regex Words();

    [GeneratedRegex(@"\bstd\s*::", Options, 5000)]
    private static partial Regex Standard();

    [GeneratedRegex(@"(?<![\w\])\[]\s{0,8})\[\s*(?!\[)[=&\w\s,]*\]\s*(\([^()]*\)\s*)?(mutable\s*)?(->\s*\w+\s*)?\{", Options, 5000)]
    private static partial Regex Lambda();

    [GeneratedRegex(@"\b(__(global|local|constant|private|generic|kernel)|global|local|private|generic|read_only|write_only)\b", Options, 5000)]
    private static partial Regex AddressSpaces();

    [GeneratedRegex(@"\b(__builtin_\w+|convert_\w+|as_(float|u?int|u?short|half|u?long|u?char)\d?|vload\w+|vstore\w+|get_(global|local|group)_\w+|native_\w+|half_\w+\s*(?=\()|barrier\s*(?=\()|mem_fence|sub_group_\w+|work_group_\w+)(?=\s*\()", Options, 5000)]
    private static partial Regex OpenCl();

    [GeneratedRegex(@"\(\s*(float|half|u?int|u?short|u?char|u?long|bool)[2348]\s*\)\s*\(", Options, 5000)]
    private static partial Regex VectorLiteral();

    [GeneratedRegex(@"\.\s*(s[0-9a-fA-F]+|lo|hi|even|odd)\b(?!\s*\()", Options, 5000)]
    private static partial Regex Swizzle();

    [GeneratedRegex(@"\b(0[xX][0-9a-fA-F]+|\d+)[uU]?(ll|LL)[uU]?\b", Options, 5000)]
    private static partial Regex LongLongLiteral();

    [GeneratedRegex(@"(\[\[\s*|(?<=\[\[[^\]]*),\s*)(?<name>\w+)", Options, 5000)]
    private static partial Regex Attribute();

    [GeneratedRegex(@"^\s*#\s*(include|import)\s*(?<name>\S+)", Options | RegexOptions.Multiline, 5000)]
    private static partial Regex Include();

    [GeneratedRegex(@"^\s*#\s*pragma\s+(?<text>[^\n]*)|_Pragma\(\s*""(?<text>[^""]*)""\s*\)", Options | RegexOptions.Multiline, 5000)]
    private static partial Regex Pragma();

    [GeneratedRegex(@"\bauto\b", Options, 5000)]
    private static partial Regex AutoType();
}
