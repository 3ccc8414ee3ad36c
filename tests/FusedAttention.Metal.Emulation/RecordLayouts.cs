using System.Globalization;
using System.Text.RegularExpressions;

namespace FusedAttention.Metal.Emulation;

/// <summary>A field of a struct as the compiler lays it out.</summary>
internal readonly record struct RecordField(string Type, string Name, int Offset);

/// <summary>Layouts of the structs of a text, from the compiler.</summary>
internal static partial class RecordLayouts
{
    public static Dictionary<string, (RecordField[] Fields, int Size)> Of(string text, string[] names)
    {
        string folder = Directory.CreateTempSubdirectory("fused-attention-layouts-").FullName;
        try
        {
            // The compiler prints the layouts that it needs.
            File.WriteAllText(Path.Combine(folder, "structs.metal"), $"{text}\n{string.Join('\n', names.Select(name => $"static_assert(sizeof({name}) > 0, \"\");"))}\n");
            string dump = EmulatorToolchain.Compile(folder, ["-x", "cl", .. EmulatorBuild.Language, .. EmulatorBuild.IncludeOptions, "-fsyntax-only", "-Xclang", "-fdump-record-layouts", "structs.metal"]);
            return Record().Matches(dump).ToDictionary(
                match => match.Groups["name"].Value,
                match => ((RecordField[])[.. Field().Matches(match.Groups["fields"].Value).Select(field => new RecordField(field.Groups["type"].Value, field.Groups["name"].Value, Number(field.Groups["offset"])))], Number(match.Groups["size"])),
                StringComparer.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        static int Number(Group group) => int.Parse(group.ValueSpan, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"^ +0 \| struct (?<name>\w+)\n(?<fields>( +\d+ \|   .*\n)*) +\| \[sizeof=(?<size>\d+)", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Record();

    [GeneratedRegex(@"^ +(?<offset>\d+) \|   (?<type>.*) (?<name>\w+)$", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Field();
}
