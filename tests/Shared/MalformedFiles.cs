using FusedAttention.Checking.Formats;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>What every reader owes on files that are not what they say: an exception of one type, which names the file, and nothing worse.</summary>
internal static class MalformedFiles
{
    /// <summary>Opens a file and loads all it has.</summary>
    public static List<LoadedTensor> ReadAll(string path)
    {
        using TensorFile file = TensorFile.Open(path);
        return [.. file.Names.Select(file.Read)];
    }

    /// <summary>Asserts that reading throws, and that the message names the file and has the words given.</summary>
    public static void AssertRefused(string path, params ReadOnlySpan<string> words)
    {
        var e = Assert.Throws<TensorFileException>(() => ReadAll(path));
        Assert.StartsWith(path, e.Message, StringComparison.Ordinal);
        foreach (string word in words) Assert.Contains(word, e.Message, StringComparison.Ordinal);
    }

    /// <summary>Cuts the file after every byte: each time it is refused.</summary>
    public static void AssertEveryTruncationIsRefused(TemporaryFolder folder, string name, byte[] whole)
    {
        for (int length = 0; length < whole.Length; length++)
        {
            string path = folder.Write(name, whole.AsSpan(0, length));
            Assert.True(Record.Exception(() => ReadAll(path)) is TensorFileException, $"cut to {length} of {whole.Length} bytes: {Record.Exception(() => ReadAll(path))?.GetType().Name ?? "accepted"}");
        }
    }

    /// <summary>Replaces every byte by several others: the file is read or refused, and nothing else happens.</summary>
    public static int AssertEveryDamageIsReadOrRefused(TemporaryFolder folder, string name, byte[] whole)
    {
        int refused = 0;
        for (int i = 0; i < whole.Length; i++)
        {
            foreach (byte value in (ReadOnlySpan<byte>)[0x00, 0xFF, (byte)(whole[i] ^ 0x01), (byte)(whole[i] ^ 0x80), (byte)'9', (byte)'"'])
            {
                byte[] damaged = [.. whole];
                damaged[i] = value;
                string path = folder.Write(name, damaged);
                Exception? e = Record.Exception(() => ReadAll(path));
                Assert.True(e is null or TensorFileException, $"byte {i} of {whole.Length} set to {value}: {e}");
                if (e is not null) refused++;
            }
        }

        return refused;
    }
}
