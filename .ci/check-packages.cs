#:property PublishAot=false
#:property IsPackable=false
#:property RunAnalyzers=false
// Checks what is in the packages of a folder: dotnet run .ci/check-packages.cs -- FOLDER
// Each package has its README without links into the repository, its icon and tags, its licence expression, a symbols package and no native code; the library stays small; a package that uses the library's
// internals depends on exactly its version.
using System.IO.Compression;
using System.Reflection.PortableExecutable;
using System.Text.RegularExpressions;
using System.Xml.Linq;

// What the design allows.
const long MaxLibraryBytes = 400_000;
string folder = args is [string only] ? only : "artifacts/packages";
var problems = new List<string>();
string[] packages = [.. Directory.GetFiles(folder, "*.nupkg").Order(StringComparer.Ordinal)];
foreach (string package in packages) Check(package);
foreach (string id in (string[])["FusedAttention", "FusedAttention.Cuda", "FusedAttention.Metal", "FusedAttention.Cli"])
{
    if (!packages.Any(package => Path.GetFileName(package).StartsWith(id + ".", StringComparison.Ordinal) && char.IsAsciiDigit(Path.GetFileName(package)[id.Length + 1]))) problems.Add($"{folder}: no package {id}");
}

foreach (string problem in problems) Console.Error.WriteLine(problem);
return problems.Count == 0 ? 0 : 1;

void Check(string path)
{
    using ZipArchive zip = ZipFile.OpenRead(path);
    string name = Path.GetFileName(path);
    ZipArchiveEntry nuspec = zip.Entries.Single(entry => !entry.FullName.Contains('/', StringComparison.Ordinal) && entry.Name.EndsWith(".nuspec", StringComparison.Ordinal));
    XElement metadata = XDocument.Load(nuspec.Open()).Root!.Elements().Single(element => element.Name.LocalName == "metadata");
    XElement? Meta(string field) => metadata.Elements().SingleOrDefault(element => element.Name.LocalName == field);
    void Expect(bool condition, string otherwise)
    {
        if (!condition) problems.Add($"{name}: {otherwise}");
    }

    string id = Meta("id")!.Value;
    Expect(Meta("license") is { Value: "MIT" } license && license.Attribute("type")?.Value == "expression", "no licence expression MIT");
    Expect(Meta("readme")?.Value == "README.md" && zip.GetEntry("README.md") is { Length: > 0 }, "no README.md");
    Expect(!HasRelativeLinks(zip.GetEntry("README.md")), "README.md has links that lead nowhere from a package's page");
    Expect(Meta("icon")?.Value == "icon.png" && zip.GetEntry("icon.png") is { Length: > 0 }, "no icon");
    Expect(!string.IsNullOrWhiteSpace(Meta("tags")?.Value), "no tags");
    Expect(!string.IsNullOrWhiteSpace(Meta("description")?.Value), "no description");

    string symbols = Path.ChangeExtension(path, ".snupkg");
    Expect(File.Exists(symbols) && HasSymbols(symbols), "no symbols package with a .pdb");

    bool isTool = metadata.Descendants().Any(element => element.Name.LocalName == "packageType" && element.Attribute("name")?.Value == "DotnetTool");
    string[] files = [.. zip.Entries.Select(entry => entry.FullName)];
    if (isTool) Expect(files.Any(file => file.EndsWith("/DotnetToolSettings.xml", StringComparison.Ordinal)), "no tool settings");
    else Expect(files.Contains($"lib/net10.0/{id}.dll", StringComparer.Ordinal) && files.Contains($"lib/net10.0/{id}.xml", StringComparer.Ordinal), "no library with its documentation");

    foreach (ZipArchiveEntry entry in zip.Entries)
    {
        string extension = Path.GetExtension(entry.Name).ToUpperInvariant();
        Expect(extension is not (".SO" or ".DYLIB" or ".A" or ".LIB" or ".EXE" or ".NODE" or ".WASM"), $"native code: {entry.FullName}");
        Expect(extension != ".DLL" || IsManaged(entry), $"native code: {entry.FullName}");
    }

    if (id is "FusedAttention.Cuda" or "FusedAttention.Metal")
    {
        string exact = $"[{Meta("version")!.Value}]";
        string? depends = metadata.Descendants().SingleOrDefault(element => element.Name.LocalName == "dependency" && element.Attribute("id")?.Value == "FusedAttention")?.Attribute("version")?.Value;
        Expect(depends == exact, $"depends on FusedAttention {depends ?? "not at all"} instead of exactly {exact}");
    }

    long size = new FileInfo(path).Length;
    if (id == "FusedAttention") Expect(size < MaxLibraryBytes, $"{size} bytes, which is not under {MaxLibraryBytes}");
    Console.WriteLine($"{name}: {size / 1000.0:0.0} kB, {files.Length} files{(isTool ? ", tool" : "")}");
}

static bool HasSymbols(string path)
{
    using ZipArchive zip = ZipFile.OpenRead(path);
    return zip.Entries.Any(entry => entry.Name.EndsWith(".pdb", StringComparison.OrdinalIgnoreCase));
}

static bool HasRelativeLinks(ZipArchiveEntry? readme)
{
    if (readme is null) return false;
    using var text = new StreamReader(readme.Open());
    return Regex.IsMatch(text.ReadToEnd(), @"\]\((?!https://)");
}

static bool IsManaged(ZipArchiveEntry entry)
{
    using var bytes = new MemoryStream();
    using (Stream content = entry.Open()) content.CopyTo(bytes);
    bytes.Position = 0;
    try
    {
        using var reader = new PEReader(bytes);
        return reader.HasMetadata && reader.PEHeaders.CorHeader is { } header && header.Flags.HasFlag(CorFlags.ILOnly);
    }
    catch (BadImageFormatException)
    {
        return false;
    }
}
