namespace FusedAttention.Testing;

/// <summary>Finds the repository above the test binary, and the data that may lie beside it; a clone alone has none.</summary>
internal static class SharedData
{
    public static string? RepositoryRoot { get; } = FindRoot();

    public static string? Folder(string name)
    {
        if (RepositoryRoot is null) return null;
        string path = Path.GetFullPath(Path.Combine(RepositoryRoot, "..", "shared", "data", name));
        return Directory.Exists(path) ? path : null;
    }

    /// <summary>The whole reference set beside the checkout, or else the part of it that the repository has.</summary>
    public static string? ReferenceSet()
    {
        if (Folder("reference") is string whole) return whole;
        string? part = RepositoryRoot is null ? null : Path.Combine(RepositoryRoot, "tests", "data", "reference");
        return Directory.Exists(part) ? part : null;
    }

    private static string? FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "FusedAttention.slnx"))) return folder.FullName;
        }

        return null;
    }
}
