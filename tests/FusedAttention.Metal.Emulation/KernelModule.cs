using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace FusedAttention.Metal.Emulation;

/// <summary>
/// A library in the compiler's intermediate text, before any optimisation. Threadgroup arrays are private to their kernel there, with undefined contents, from which
/// the optimiser would conclude that what is stored once was always so, and a missing barrier would not show; so they become memory that anybody may change.
/// Function constants, declared and nowhere defined, are defined. Tables of both let the runtime find them.
/// </summary>
internal sealed partial class KernelModule
{
    private readonly Dictionary<string, HashSet<string>> _mentions = new(StringComparer.Ordinal);
    private readonly List<(string Symbol, string Type)> _constants = [];

    private KernelModule(string text) => Text = text;

    /// <summary>The module as it is compiled further.</summary>
    public string Text { get; private set; }

    /// <summary>
    /// The module with its loops left as loops, which is what runs: unrolling changes no bit of what a lane computes, and takes three quarters of the time that compiling takes (14 s of processor time against 3 for the
    /// drop-in's ten copies of the kernels). Whether arrays stay in registers is asked of <see cref="Text"/>.
    /// </summary>
    public string RolledText => Text.Replace("!\"llvm.loop.unroll.full\"", "!\"llvm.loop.unroll.disable\"", StringComparison.Ordinal);

    public static KernelModule Parse(string text)
    {
        var module = new KernelModule(text);
        module.FindMentions();
        var arrays = new List<(string Kernel, string Name, string Symbol, string Type)>();
        text = ThreadgroupArray().Replace(text, match =>
        {
            arrays.Add((match.Groups["kernel"].Value, match.Groups["name"].Value, match.Groups["symbol"].Value, match.Groups["type"].Value));
            return $"@{match.Groups["symbol"].Value} = global {match.Groups["type"].Value} zeroinitializer{match.Groups["rest"].Value}";
        });
        text = ExternalConstant().Replace(text, match =>
        {
            module._constants.Add((match.Groups["symbol"].Value, match.Groups["type"].Value));
            return $"@{match.Groups["symbol"].Value} = global {match.Groups["type"].Value} zeroinitializer{match.Groups["rest"].Value}";
        });
        module.Text = text + Tables(arrays, module._constants);
        return module;
    }

    /// <summary>The function constants that a function uses, itself or through what it calls: those Metal wants values for.</summary>
    public string[] ConstantsOf(string function)
    {
        HashSet<string> reached = Reach(function);
        return [.. _constants.Select(constant => constant.Symbol).Where(reached.Contains)];
    }

    /// <summary>A function that can come to itself again through its calls, or null.</summary>
    public string? FindRecursion() => _mentions.Keys.FirstOrDefault(function => _mentions[function].Any(called => Reach(called).Contains(function)));

    /// <summary>A function, what it mentions, what that mentions, and so on.</summary>
    public HashSet<string> Reach(string function)
    {
        var reached = new HashSet<string>(StringComparer.Ordinal) { function };
        var open = new Stack<string>([function]);
        while (open.TryPop(out string? next))
        {
            if (!_mentions.TryGetValue(next, out HashSet<string>? mentioned)) continue;
            foreach (string symbol in mentioned)
            {
                if (reached.Add(symbol)) open.Push(symbol);
            }
        }

        return reached;
    }

    private void FindMentions()
    {
        HashSet<string>? inside = null;
        foreach (ReadOnlySpan<char> line in Text.AsSpan().EnumerateLines())
        {
            if (line.StartsWith("define ", StringComparison.Ordinal))
            {
                Match name = Symbol().Match(line.ToString());
                _mentions[name.Groups["symbol"].Value] = inside = new HashSet<string>(StringComparer.Ordinal);
            }
            else if (line is "}")
            {
                inside = null;
            }
            else if (inside is not null && line.Contains('@'))
            {
                foreach (Match match in Symbol().Matches(line.ToString())) inside.Add(match.Groups["symbol"].Value);
            }
        }
    }

    private static string Tables(List<(string Kernel, string Name, string Symbol, string Type)> arrays, List<(string Symbol, string Type)> constants)
    {
        var text = new StringBuilder("\n");
        int strings = 0;
        IEnumerable<string> arrayRows = arrays.Select(array => $"{{ ptr, ptr, ptr, i64 }} {{ ptr {Name(array.Kernel)}, ptr {Name(array.Name)}, ptr @{array.Symbol}, i64 {Size(array.Type)} }}");
        IEnumerable<string> constantRows = constants.Select(constant => $"{{ ptr, ptr, i64 }} {{ ptr {Name(constant.Symbol)}, ptr @{constant.Symbol}, i64 {Size(constant.Type)} }}");
        Table("metal_emulator_array", "{ ptr, ptr, ptr, i64 }", [.. arrayRows]);
        Table("metal_emulator_constant", "{ ptr, ptr, i64 }", [.. constantRows]);
        return text.ToString();

        string Name(string name)
        {
            text.Append(CultureInfo.InvariantCulture, $"@metal_emulator.{strings} = private constant [{name.Length + 1} x i8] c\"{name}\\00\"\n");
            return $"@metal_emulator.{strings++}";
        }

        void Table(string name, string type, string[] rows)
        {
            string content = rows.Length == 0 ? "zeroinitializer" : $"[{string.Join(", ", rows)}]";
            text.Append(CultureInfo.InvariantCulture, $"@{name}s = constant [{rows.Length} x {type}] {content}\n@{name}_count = constant i64 {rows.Length}\n");
        }

        static string Size(string type) => $"ptrtoint (ptr getelementptr ({type}, ptr null, i64 1) to i64)";
    }

    [GeneratedRegex(@"^@(?<symbol>_ZZ\d+(?<kernel>\w+?)E\d+(?<name>\w+)) = internal (unnamed_addr )?global (?<type>.+) undef(?<rest>,.*)?$", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex ThreadgroupArray();

    [GeneratedRegex(@"^@(?<symbol>\w+) = external constant (?<type>[^,]+)(?<rest>,.*)?$", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex ExternalConstant();

    [GeneratedRegex(@"@""?(?<symbol>[\w.$]+)", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Symbol();
}
