using System.Globalization;
using System.Text.RegularExpressions;

namespace FusedAttention.Metal.Emulation;

/// <summary>Bytes of the arrays that a kernel declares for each thread: what its registers must hold from tile to tile, before anything is optimised away.</summary>
internal static partial class PrivateArrays
{
    /// <summary>Arrays, and structs with arrays in them, of a kernel's own body; not those of the functions it calls.</summary>
    public static int BytesOf(string module, string kernel)
    {
        var structs = StructType().Matches(module).ToDictionary(match => match.Groups["name"].Value, match => match.Groups["body"].Value, StringComparer.Ordinal);
        bool isInside = false;
        int bytes = 0;
        foreach (string line in module.Split('\n'))
        {
            if (line.StartsWith("define ", StringComparison.Ordinal)) isInside = line.Contains($" @{kernel}(", StringComparison.Ordinal);
            else if (line is "}") isInside = false;
            Match match = isInside ? Alloca().Match(line) : Match.Empty;
            if (match.Success && HasArray(match.Groups["type"].Value)) bytes += Size(match.Groups["type"].Value).Bytes;
        }

        return bytes;

        bool HasArray(string type) => type[0] == '[' || (type[0] == '%' && Parts(structs[type]).Any(HasArray));

        (int Bytes, int Alignment) Size(string type)
        {
            if (type[0] is '[' or '<')
            {
                int times = type.IndexOf(" x ", StringComparison.Ordinal);
                (int element, int alignment) = Size(type[(times + 3)..^1]);
                int size = int.Parse(type.AsSpan(1, times - 1), CultureInfo.InvariantCulture) * element;
                // A vector of three takes the room of four, and is aligned to all of it.
                return type[0] == '[' ? (size, alignment) : ((int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)size), (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)size));
            }

            if (type[0] != '%')
            {
                int size = type switch { "i8" or "i1" => 1, "i16" or "half" => 2, "i32" or "float" => 4, _ => 8 };
                return (size, size);
            }

            int at = 0, largest = 1;
            foreach ((int size, int alignment) in Parts(structs[type]).Select(Size))
            {
                at = ((at + alignment - 1) / alignment * alignment) + size;
                largest = Math.Max(largest, alignment);
            }

            return ((at + largest - 1) / largest * largest, largest);
        }
    }

    private static IEnumerable<string> Parts(string body)
    {
        int depth = 0, start = 0;
        for (int i = 0; i <= body.Length; i++)
        {
            if (i == body.Length || (body[i] == ',' && depth == 0))
            {
                yield return body[start..i].Trim();
                start = i + 1;
            }
            else if (body[i] is '[' or '<' or '{')
            {
                depth++;
            }
            else if (body[i] is ']' or '>' or '}')
            {
                depth--;
            }
        }
    }

    [GeneratedRegex(@"^(?<name>%[\w.]+) = type \{ (?<body>.*) \}$", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex StructType();

    [GeneratedRegex(@"= alloca (?<type>\[.*\]|%[\w.]+)", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Alloca();
}
