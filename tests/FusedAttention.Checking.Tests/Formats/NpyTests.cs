using System.IO.Compression;
using System.Text;
using FusedAttention.Checking.Formats;
using Xunit;

namespace FusedAttention.Checking.Tests;

public sealed class NpyTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Every_type_and_shape_survives_a_round_trip()
    {
        LoadedTensor[] tensors =
        [
            LoadedTensor.Create<float>("a", [1, -2, float.NaN, 4, 5, 6], 3, 2),
            LoadedTensor.Create<Half>("a", [(Half)0.5f], 1),
            LoadedTensor.Create<double>("a", [Math.E]),
            LoadedTensor.Create<int>("a", [-1, 2], 1, 1, 2),
            LoadedTensor.Create<long>("a", [-1, 2], 2),
            LoadedTensor.Create<bool>("a", [false, true], 2),
            LoadedTensor.Create<byte>("a", [9], 1),
            LoadedTensor.Create<float>("a", [], 0, 4),
        ];
        foreach (LoadedTensor expected in tensors)
        {
            string path = _folder.File("a.npy");
            NpyFile.Write(path, expected);
            LoadedTensor actual = Assert.Single(MalformedFiles.ReadAll(path));
            Assert.Equal("a", actual.Name);
            Assert.Equal(expected.ElementType, actual.ElementType);
            Assert.Equal(expected.Shape, actual.Shape);
            Assert.Equal(expected.Bytes.ToArray(), actual.Bytes.ToArray());
            Assert.Equal(0, (new FileInfo(path).Length - expected.Bytes.Length) % 64);
        }
    }

    [Fact]
    public void Bfloat16_is_refused_before_a_file_is_made()
    {
        string path = _folder.File("b.npy");

        var e = Assert.Throws<ArgumentException>(() => NpyFile.Write(path, LoadedTensor.Create<BFloat16>("o", [BFloat16.One], 1)));

        Assert.Contains("safetensors", e.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(path));
    }

    [Theory]
    [InlineData(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }")]
    [InlineData(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }")]
    [InlineData(3, "{'shape': (2,1), \"fortran_order\":False,'descr':'<f4'}   \n")]
    [InlineData(1, "{ 'descr' : '<f4' ,'fortran_order':True,'shape':( 2 ,)}")]
    public void Headers_of_versions_1_to_3_are_read(byte version, string header)
    {
        string path = _folder.Write("v.npy", WithHeader(version, header, 8));

        Assert.Equal(2, Assert.Single(MalformedFiles.ReadAll(path)).ElementCount);
    }

    [Theory]
    [InlineData("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }", "Fortran")]
    [InlineData("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", "big-endian")]
    [InlineData("{'descr': '|V2', 'fortran_order': False, 'shape': (4,), }", "bfloat16")]
    [InlineData("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "<c8")]
    [InlineData("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", "named fields")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "12 bytes of data, but has 8")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "4 bytes of data, but has 8")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", "a length from 0")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "a length from 0")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", "more elements")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2305843009213693952,), }", "more elements")]
    [InlineData("{'descr': '<f4', 'fortran_order': False}", "no shape")]
    [InlineData("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "the key 'descr'")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'extra': '1'}", "the key 'extra'")]
    [InlineData("{'descr': '<f4', 'fortran_order': false, 'shape': (2,)}", "True or False")]
    [InlineData("{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}", "','")]
    [InlineData("{'descr': '<f4, 'fortran_order': False, 'shape': (2,)}", "expected")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", "the end")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,", "a length")]
    [InlineData("{'descr", "a closing quote")]
    [InlineData("", "'{'")]
    public void A_header_that_does_not_hold_is_refused(string header, string words)
        => MalformedFiles.AssertRefused(_folder.Write("bad.npy", WithHeader(1, header, 8)), words);

    [Theory]
    [InlineData(0, "version 0.0")]
    [InlineData(4, "version 4.0")]
    public void An_unknown_version_is_refused(byte version, string words)
        => MalformedFiles.AssertRefused(_folder.Write("bad.npy", WithHeader(version, "{}", 0)), words);

    [Fact]
    public void A_header_length_of_gigabytes_is_refused_before_memory_is_taken()
        => MalformedFiles.AssertRefused(_folder.Write("bad.npy", [0x93, .. "NUMPY"u8, 2, 0, 0xFF, 0xFF, 0xFF, 0xFF]), "4294967295");

    [Fact]
    public void A_file_cut_anywhere_is_refused() => MalformedFiles.AssertEveryTruncationIsRefused(_folder, "cut.npy", SmallFile());

    [Slow]
    [Fact]
    public void A_file_damaged_anywhere_is_read_or_refused()
        => Assert.InRange(MalformedFiles.AssertEveryDamageIsReadOrRefused(_folder, "damaged.npy", SmallFile()), 100, int.MaxValue);

    [Theory]
    [InlineData(CompressionLevel.NoCompression)]
    [InlineData(CompressionLevel.Optimal)]
    public void An_archive_holds_its_members_by_name(CompressionLevel level)
    {
        string path = _folder.Write("a.npz", Archive(level));

        List<LoadedTensor> tensors = MalformedFiles.ReadAll(path);

        Assert.Equal(["q", "k"], tensors.ConvertAll(t => t.Name), StringComparer.Ordinal);
        Assert.Equal([1f, 2f, 3f], tensors[0].Elements<float>().ToArray());
        Assert.Equal([7], tensors[1].Elements<int>().ToArray());
    }

    [Slow]
    [Theory]
    [InlineData(CompressionLevel.NoCompression)]
    [InlineData(CompressionLevel.Optimal)]
    public void An_archive_cut_anywhere_is_refused(CompressionLevel level)
        => MalformedFiles.AssertEveryTruncationIsRefused(_folder, "cut.npz", Archive(level));

    [Slow]
    [Theory]
    [InlineData(CompressionLevel.NoCompression)]
    [InlineData(CompressionLevel.Optimal)]
    public void An_archive_damaged_anywhere_is_read_or_refused(CompressionLevel level)
        => Assert.InRange(MalformedFiles.AssertEveryDamageIsReadOrRefused(_folder, "damaged.npz", Archive(level)), 200, int.MaxValue);

    private static byte[] SmallFile()
    {
        LoadedTensor tensor = LoadedTensor.Create<float>("a", [1, 2, 3], 3, 1);
        return [.. NpyHeader.Write(tensor), .. tensor.Bytes];
    }

    private static byte[] Archive(CompressionLevel level)
    {
        using var stream = new MemoryStream();
        using (var archive = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true))
        {
            foreach (LoadedTensor tensor in (ReadOnlySpan<LoadedTensor>)[LoadedTensor.Create<float>("q", [1, 2, 3], 3), LoadedTensor.Create<int>("k", [7], 1)])
            {
                using Stream member = archive.CreateEntry(tensor.Name + ".npy", level).Open();
                member.Write(NpyHeader.Write(tensor));
                member.Write(tensor.Bytes);
            }
        }

        return stream.ToArray();
    }

    private static byte[] WithHeader(byte version, string header, int dataLength)
    {
        byte[] text = Encoding.ASCII.GetBytes(header);
        byte[] length = version == 1 ? [(byte)text.Length, (byte)(text.Length >> 8)] : [(byte)text.Length, (byte)(text.Length >> 8), 0, 0];
        return [0x93, .. "NUMPY"u8, version, 0, .. length, .. text, .. new byte[dataLength]];
    }
}
