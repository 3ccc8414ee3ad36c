namespace FusedAttention.Checking.Formats;

/// <summary>Files that are there as a whole or not at all: written beside their place, and moved there when all of it is on disk.</summary>
internal static class WholeFile
{
    /// <param name="path">Where the file belongs; one that is there already is replaced.</param>
    /// <param name="write">Writes its contents. If it throws, nothing is left behind and an old file is as it was.</param>
    public static void Write(string path, Action<Stream> write)
    {
        string beside = $"{path}.{Path.GetRandomFileName()}.part";
        try
        {
            using (var stream = new FileStream(beside, FileMode.CreateNew, FileAccess.Write, FileShare.None)) write(stream);
            File.Move(beside, path, overwrite: true);
        }
        catch
        {
            File.Delete(beside);
            throw;
        }
    }
}
