namespace FusedAttention.Architecture.Tests;

/// <summary>A type of one room names a type of another.</summary>
internal readonly record struct Arrow(string From, string To, string Type, string Named)
{
    public override string ToString() => $"{From} -> {To}: {Type} names {Named}";
}

/// <summary>Rooms, which are the folders of the source tree, and the arrows between them.</summary>
internal sealed class House
{
    private House(string[] rooms, Arrow[] arrows) => (Rooms, Arrows) = (rooms, arrows);

    public string[] Rooms { get; }

    public Arrow[] Arrows { get; }

    /// <summary>The assemblies of a folder, of which only what stands in source files below another folder is looked at.</summary>
    /// <param name="binaries">Where assemblies and their symbols lie.</param>
    /// <param name="source">The folder of the rooms, without slashes around it: a checkout may lie anywhere.</param>
    public static House Read(string binaries, string source)
    {
        List<HouseType> types = [.. Directory.GetFiles(binaries, "*.dll").Where(path => File.Exists(Path.ChangeExtension(path, ".pdb"))).SelectMany(AssemblyTypes.Read)];
        var rooms = new Dictionary<TypeName, string>();
        foreach (HouseType type in types)
        {
            string[] folders = [.. type.Files.Select(file => RoomOf(file, source)).OfType<string>().Distinct(StringComparer.Ordinal)];
            if (folders.Length > 1) throw new InvalidOperationException($"{type.Name} stands in more than one room: {string.Join(", ", folders)}.");
            if (folders.Length == 1) rooms.Add(type.Name, folders[0]);
        }

        var arrows = new HashSet<Arrow>();
        foreach (HouseType type in types)
        {
            if (!rooms.TryGetValue(type.Name, out string? from)) continue;
            foreach (TypeName name in type.Names)
            {
                if (rooms.TryGetValue(name, out string? to) && !string.Equals(from, to, StringComparison.Ordinal)) arrows.Add(new(from, to, type.Name.ToString(), name.ToString()));
            }
        }

        return new([.. rooms.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)], [.. arrows.OrderBy(arrow => arrow.ToString(), StringComparer.Ordinal)]);
    }

    /// <summary>The folder of a file below the source folder; null for what generators wrote elsewhere.</summary>
    private static string? RoomOf(string file, string source)
    {
        string root = $"/{source}/";
        int start = file.LastIndexOf(root, StringComparison.Ordinal);
        int end = file.LastIndexOf('/');
        return start < 0 || end < start + root.Length ? null : file[(start + root.Length)..end];
    }
}
