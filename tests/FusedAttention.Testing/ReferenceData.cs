
namespace FusedAttention.Testing;

/// <summary>
/// Where the data lie: the whole reference set and data of other origin in <c>shared/data</c> beside the repository, a subset of the reference set in the repository.
/// </summary>
internal static class ReferenceData
{
    /// <summary>The folder of FusedAttention.slnx.</summary>
    public static string Root { get; } = SharedData.RepositoryRoot ?? throw new DirectoryNotFoundException($"No folder above {AppContext.BaseDirectory} holds FusedAttention.slnx.");

    public static string Subset => Path.Combine(Root, "tests", "data", "reference");

    /// <summary>The whole set where it exists, else the committed subset.</summary>
    public static string Reference => Beside("reference") ?? Subset;

    public static string FunctionSubset => Path.Combine(Root, "tests", "data", "reference-scorefn");

    /// <summary>The cases with score and mask functions: the whole set where it exists, else the committed subset.</summary>
    public static string Functions => Beside("reference-scorefn") ?? FunctionSubset;

    /// <summary>Case names of <see cref="Reference"/>, in order.</summary>
    public static string[] Cases { get; } = Names(Reference);

    public static string[] Names(string folder)
        => [.. Directory.EnumerateFiles(folder, "*.safetensors").Select(file => Path.GetFileNameWithoutExtension(file)).Order(StringComparer.Ordinal)];

    public static string PathOf(string name) => Path.Combine(Reference, name + ".safetensors");

    /// <summary>A folder of data beside the repository, or null where this machine does not have it.</summary>
    public static string? Beside(string folder) => SharedData.Folder(folder);
}
