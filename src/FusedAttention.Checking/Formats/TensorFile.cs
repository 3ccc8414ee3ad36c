using System.Collections.Immutable;

namespace FusedAttention.Checking.Formats;

/// <summary>
/// An open file of named tensors. Opening reads the directory only; <see cref="Read"/> loads one tensor, so a file larger than memory is no trouble
/// as long as the tensors wanted are not.
/// </summary>
public abstract class TensorFile : IDisposable
{
    /// <summary>Zip and safetensors both allow more; one .NET array does not.</summary>
    public const long MaxTensorBytes = 0x7FFF_FFC7;

    protected TensorFile(string path) => Path = path;

    /// <summary>The file as whoever opened it called it: so messages call it too.</summary>
    public string Path { get; }

    /// <summary>The tensors' names, in the order of the file.</summary>
    public abstract IReadOnlyList<string> Names { get; }

    /// <summary>Strings that travel with the tensors; empty where the format has none.</summary>
    public virtual IReadOnlyDictionary<string, string> Metadata => ImmutableDictionary<string, string>.Empty;

    /// <summary>Opens a .safetensors, .npz or .npy file, told apart by extension.</summary>
    /// <exception cref="TensorFileException">The file is not of its format.</exception>
    /// <exception cref="IOException">The file cannot be opened.</exception>
    public static TensorFile Open(string path) => System.IO.Path.GetExtension(path).ToLowerInvariant() switch
    {
        ".safetensors" => new SafeTensorsFile(path),
        ".npz" => new NpzFile(path),
        ".npy" => new NpyFile(path),
        "" => throw new TensorFileException(path, "has no extension; expected .safetensors, .npz or .npy."),
        string other => throw new TensorFileException(path, $"has the extension {other}; expected .safetensors, .npz or .npy."),
    };

    /// <summary>Loads one tensor.</summary>
    /// <exception cref="TensorFileException">There is no such tensor, or its data or type cannot be read.</exception>
    public abstract LoadedTensor Read(string name);

    public bool Contains(string name) => Names.Contains(name, StringComparer.Ordinal);

    /// <summary>The name in the file that equals <paramref name="name"/>, or else the one that does so without regard to case.</summary>
    public string? Find(string name)
        => Names.FirstOrDefault(n => n.Equals(name, StringComparison.Ordinal)) ?? Names.FirstOrDefault(n => n.Equals(name, StringComparison.OrdinalIgnoreCase));

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);

    protected TensorFileException Bad(string problem) => new(Path, problem);

    protected TensorFileException Missing(string name) => Bad($"has no tensor '{name}'; it has {(Names.Count == 0 ? "none" : string.Join(", ", Names))}.");

    /// <summary>A boolean byte other than 0 and 1 would make two "true" values that compare unequal.</summary>
    internal static void CheckBooleans(string fileName, string tensor, TensorElementType type, ReadOnlySpan<byte> data)
    {
        if (type != TensorElementType.Boolean) return;
        int bad = data.IndexOfAnyExceptInRange((byte)0, (byte)1);
        if (bad >= 0) throw new TensorFileException(fileName, $"element {bad} of the boolean tensor '{tensor}' is {data[bad]}; expected 0 or 1.");
    }
}
