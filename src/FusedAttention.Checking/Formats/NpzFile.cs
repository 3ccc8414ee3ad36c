using System.IO.Compression;

namespace FusedAttention.Checking.Formats;

/// <summary>A .npz archive: a zip file of .npy members, compressed or not. A tensor has the name of its member without the extension.</summary>
public sealed class NpzFile : TensorFile
{
    /// <summary>Deflate cannot shrink more than this; a member that claims more lies about its size.</summary>
    private const long MaxCompression = 1032;

    private readonly ZipArchive _archive;
    private readonly Dictionary<string, ZipArchiveEntry> _members = new(StringComparer.Ordinal);

    public NpzFile(string path)
        : base(path)
    {
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        try
        {
            _archive = new ZipArchive(stream, ZipArchiveMode.Read);
            foreach (ZipArchiveEntry member in _archive.Entries)
            {
                if (!member.FullName.EndsWith(".npy", StringComparison.Ordinal)) continue;
                if (!_members.TryAdd(member.FullName[..^4], member)) throw Bad($"has the member {member.FullName} twice.");
            }
        }
        catch (Exception e) when (IsDamage(e))
        {
            stream.Dispose();
            throw new TensorFileException(Path, $"is not a readable zip archive: {e.Message}", e);
        }
        catch
        {
            stream.Dispose();
            throw;
        }

        Names = [.. _members.Keys];
    }

    public override IReadOnlyList<string> Names { get; }

    public override LoadedTensor Read(string name)
    {
        if (!_members.TryGetValue(name, out ZipArchiveEntry? member)) throw Missing(name);
        string label = $"{Path}/{member.FullName}";
        try
        {
            if (member.Length / MaxCompression > member.CompressedLength + 1)
                throw new TensorFileException(label, $"claims to unpack {member.CompressedLength} bytes to {member.Length}, which no deflate stream does.");
            using Stream stream = member.Open();
            return NpyFile.ReadWhole(stream, member.Length, label, name);
        }
        catch (Exception e) when (IsDamage(e))
        {
            throw new TensorFileException(label, $"cannot be unpacked: {e.Message}", e);
        }
    }

    protected override void Dispose(bool disposing) => _archive.Dispose();

    /// <summary>What System.IO.Compression throws on damaged archives, apart from our own exceptions.</summary>
    private static bool IsDamage(Exception e)
        => e is InvalidDataException or EndOfStreamException or NotSupportedException or ArgumentException or OverflowException or NotImplementedException;
}
