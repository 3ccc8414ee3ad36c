using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace FusedAttention.Metal.Emulation;

/// <summary>
/// Reads what kernels expect from preprocessed text, where every macro has become what it stands for, and writes the calls: Metal reads the same attributes when it
/// connects slots and grid positions with arguments.
/// </summary>
internal static partial class KernelText
{
    /// <summary>Built-in arguments, numbered as in the runtime's <c>main.c</c>.</summary>
    private static readonly Dictionary<string, int> BuiltIns = new(StringComparer.Ordinal)
    {
        ["thread_position_in_grid"] = 0,
        ["threadgroup_position_in_grid"] = 1,
        ["thread_position_in_threadgroup"] = 2,
        ["threads_per_threadgroup"] = 3,
        ["threadgroups_per_grid"] = 4,
        ["threads_per_grid"] = 5,
        ["thread_index_in_threadgroup"] = 6,
        ["thread_index_in_simdgroup"] = 7,
        ["simdgroup_index_in_threadgroup"] = 8,
        ["simdgroups_per_threadgroup"] = 9,
        ["threads_per_simdgroup"] = 10,
    };

    /// <summary>An argument that a host gives a length; here nobody does, and a kernel that used it would crash. Preprocessed, it has the address space's other name.</summary>
    private const string ThreadgroupMemory = "threadgroup";

    public static KernelSignature[] ParseKernels(string text)
    {
        var kernels = new List<KernelSignature>();
        foreach (Match match in KernelHead().Matches(text))
        {
            int open = match.Index + match.Length - 1;
            string name = match.Groups["name"].Value;
            Group threads = match.Groups["threads"];
            string list = text[(open + 1)..Closing(text, open)];
            kernels.Add(new KernelSignature(
                name, threads.Success ? Product(threads.Value) : null, [.. Split(list).Select(text => ParseArgument(name, text))]));
        }

        return [.. kernels];
    }

    /// <summary>Of the text before preprocessing: the emulator's own macro drops the index.</summary>
    public static DeclaredConstant[] ParseConstants(string text) =>
        [.. ConstantDeclaration().Matches(text).Select(match => new DeclaredConstant(
            match.Groups["type"].Value, match.Groups["name"].Value, int.Parse(match.Groups["index"].ValueSpan, CultureInfo.InvariantCulture)))];

    /// <summary>Functions that call each kernel with what the runtime has, and that tell how much a slot must hold.</summary>
    public static string WriteCalls(KernelSignature[] kernels)
    {
        var calls = new StringBuilder("\n#line 1 \"calls\"\nextern \"C\" void metal_emulator_run_kernel(uint kernel_number) {\n    switch (kernel_number) {\n");
        var sizes = new StringBuilder("extern \"C\" ulong metal_emulator_size_of(uint kernel_number, uint slot) {\n    switch (kernel_number * 32u + slot) {\n");
        for (int k = 0; k < kernels.Length; k++)
        {
            calls.Append(CultureInfo.InvariantCulture, $"    case {k}: {kernels[k].Name}({string.Join(", ", kernels[k].Arguments.Select(Argument))}); break;\n");
            foreach (KernelArgument argument in kernels[k].Buffers.Where(argument => argument.IsReference))
            {
                sizes.Append(CultureInfo.InvariantCulture, $"    case {(k * 32) + argument.Slot}: return sizeof({argument.Type.TrimEnd('&')});\n");
            }
        }

        return $"{calls}    }}\n}}\n{sizes}    }}\n    return 0;\n}}\n";

        static string Argument(KernelArgument argument)
        {
            if (argument.BuiltIn is ThreadgroupMemory) return $"({argument.Type})0";
            if (argument.Slot is not int slot) return $"shim::position<{argument.Type}>({BuiltIns[argument.BuiltIn!]}u)";
            return argument.IsReference ? $"*({argument.Type.TrimEnd('&')}*)metal_emulator_buffer({slot}u)" : $"({argument.Type})metal_emulator_buffer({slot}u)";
        }
    }

    private static KernelArgument ParseArgument(string kernel, string text)
    {
        int? slot = null;
        string? condition = null, builtIn = null;
        foreach (string attribute in Attribute().Matches(text).SelectMany(match => Split(match.Groups["list"].Value)))
        {
            Match call = AttributeCall().Match(attribute);
            if (!call.Success) builtIn = attribute.Trim();
            else if (call.Groups["name"].ValueSpan is "buffer") slot = int.Parse(call.Groups["value"].ValueSpan, CultureInfo.InvariantCulture);
            else if (call.Groups["name"].ValueSpan is ThreadgroupMemory or "__local") builtIn = ThreadgroupMemory;
            else if (call.Groups["name"].ValueSpan is "function_constant") condition = call.Groups["value"].Value;
            else throw new MetalEmulationException($"Kernel {kernel}: the emulator does not know the attribute {attribute}.");
        }

        string declaration = Attribute().Replace(text, " ").Trim();
        Match name = LastName().Match(declaration);
        if (!name.Success) throw new MetalEmulationException($"Kernel {kernel}: no name in the argument \"{declaration}\".");
        string type = Spaces().Replace(declaration[..name.Index], " ").Trim();
        if (slot is null && (builtIn is null || (!BuiltIns.ContainsKey(builtIn) && builtIn is not ThreadgroupMemory)))
        {
            throw new MetalEmulationException($"Kernel {kernel}: argument {name.Value} has no [[buffer(n)]] and no built-in that the emulator knows: \"{text.Trim()}\".");
        }

        return new KernelArgument(name.Value, type, slot, condition, builtIn);
    }

    /// <summary>Of what the preprocessor leaves of a number of threads: <c>(4 * 32)</c>.</summary>
    private static int Product(string text) => text.Split(['*', '(', ')', ' ', '\n'], StringSplitOptions.RemoveEmptyEntries).Aggregate(1, static (product, factor) => product * int.Parse(factor, CultureInfo.InvariantCulture));

    private static int Closing(string text, int open)
    {
        int depth = 0;
        for (int i = open; i < text.Length; i++)
        {
            if (text[i] == '(') depth++;
            else if (text[i] == ')' && --depth == 0) return i;
        }

        throw new MetalEmulationException("A kernel's list of arguments does not end.");
    }

    /// <summary>At commas that no bracket encloses.</summary>
    private static List<string> Split(string list)
    {
        var parts = new List<string>();
        int depth = 0, start = 0;
        for (int i = 0; i <= list.Length; i++)
        {
            if (i == list.Length || (list[i] == ',' && depth == 0))
            {
                if (!string.IsNullOrWhiteSpace(list[start..i])) parts.Add(LineMark().Replace(list[start..i], "").Trim());
                start = i + 1;
            }
            else if (list[i] is '(' or '[' or '<')
            {
                depth++;
            }
            else if (list[i] is ')' or ']' or '>')
            {
                depth--;
            }
        }

        return parts;
    }

    [GeneratedRegex(@"(?:\[\[\s*max_total_threads_per_threadgroup\s*\((?<threads>[\d\s*()]+?)\)\s*\]\]\s*)?\bkernel\s+void\s+(?<name>\w+)\s*\(", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex KernelHead();

    [GeneratedRegex(@"\[\[(?<list>.*?)\]\]", RegexOptions.Singleline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Attribute();

    [GeneratedRegex(@"^\s*(?<name>\w+)\s*\(\s*(?<value>\w+)\s*\)\s*$", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex AttributeCall();

    [GeneratedRegex(@"\w+$", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex LastName();

    [GeneratedRegex(@"\s+", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Spaces();

    [GeneratedRegex(@"^# \d+ .*$", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex LineMark();

    [GeneratedRegex(@"^\s*FUNCTION_CONSTANT\(\s*(?<type>\w+)\s*,\s*(?<name>\w+)\s*,\s*(?<index>\d+)\s*\)", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex ConstantDeclaration();
}
