namespace FusedAttention.Testing;

/// <summary>A folder that goes away with the test.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("fused-attention-");

    public string Path => _folder.FullName;

    public string File(string name) => System.IO.Path.Combine(_folder.FullName, name);

    public string Write(string name, ReadOnlySpan<byte> content)
    {
        string path = File(name);
        using var stream = new FileStream(path, FileMode.Create);
        stream.Write(content);
        return path;
    }

    public void Dispose() => _folder.Delete(recursive: true);
}
