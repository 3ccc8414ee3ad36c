using System.Buffers.Binary;
using System.Text;
using FusedAttention.Checking.Formats;
using Xunit;

namespace FusedAttention.Checking.Tests;

public sealed class SafeTensorsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void What_cannot_be_written_as_a_whole_is_not_written()
    {
        string path = _folder.File("o.safetensors");
        LoadedTensor good = LoadedTensor.Create<float>("x", [1, 2], 2);
        Assert.Throws<NullReferenceException>(() => SafeTensorsWriter.Write(path, [good, null!]));
        Assert.Empty(Directory.GetFiles(_folder.Path));

        SafeTensorsWriter.Write(path, [good]);
        byte[] before = File.ReadAllBytes(path);
        Assert.Throws<NullReferenceException>(() => SafeTensorsWriter.Write(path, [good, null!]));
        Assert.Equal(before, File.ReadAllBytes(path));
        Assert.Single(Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void Every_type_shape_and_metadata_survive_a_round_trip()
    {
        LoadedTensor[] tensors =
        [
            LoadedTensor.Create<float>("f32", [1.5f, float.NaN, float.NegativeInfinity, -0f], 2, 2),
            LoadedTensor.Create<Half>("f16", [(Half)65504, Half.Epsilon], 2, 1, 1),
            LoadedTensor.Create<BFloat16>("bf16", [BFloat16.MaxValue], 1),
            LoadedTensor.Create<double>("f64", [Math.PI]),
            LoadedTensor.Create<int>("i32", [int.MinValue, int.MaxValue, 0], 3),
            LoadedTensor.Create<long>("i64", [long.MinValue], 1, 1),
            LoadedTensor.Create<bool>("bool", [true, false, true], 3),
            LoadedTensor.Create<byte>("u8", [0, 255], 1, 2),
            LoadedTensor.Create<float>("empty", [], 3, 0, 2),
            LoadedTensor.Create<float>("name \"quoted\" \u00e9\n", [2], 1),
        ];
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal) { ["scale"] = "0.125", ["note"] = "a \"b\" \u20ac" };
        string path = _folder.File("a.safetensors");
        SafeTensorsWriter.Write(path, tensors, metadata);

        using var file = new SafeTensorsFile(path);
        Assert.Equal(tensors.Select(t => t.Name), file.Names, StringComparer.Ordinal);
        Assert.Equal("0.125", file.Metadata["scale"]);
        Assert.Equal("a \"b\" \u20ac", file.Metadata["note"]);
        foreach (LoadedTensor expected in tensors)
        {
            LoadedTensor actual = file.Read(expected.Name);
            Assert.Equal(expected.ElementType, actual.ElementType);
            Assert.Equal(expected.Shape, actual.Shape);
            Assert.Equal(expected.Bytes.ToArray(), actual.Bytes.ToArray());
        }

        Assert.Equal(0, BinaryPrimitives.ReadInt64LittleEndian(File.ReadAllBytes(path)) % 8);
    }

    [Fact]
    public void A_file_cut_anywhere_is_refused()
        => MalformedFiles.AssertEveryTruncationIsRefused(_folder, "cut.safetensors", SmallFile());

    [Slow]
    [Fact]
    public void A_file_damaged_anywhere_is_read_or_refused()
        => Assert.InRange(MalformedFiles.AssertEveryDamageIsReadOrRefused(_folder, "damaged.safetensors", SmallFile()), 200, int.MaxValue);

    [Theory]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8, "'a' twice")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8, "'b' begins at byte 4")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}""", 12, "gap")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 8, "8 bytes of data, but its tensors take 4")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 4, "bytes 4 to 8 of a data section of 4")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}""", 8, "bytes 8 to 4")]
    [InlineData("""{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", 8, "needs 12 bytes, but its data_offsets span 8")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", 4, "shape[0] of tensor 'a'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}""", 4, "shape[0] of tensor 'a'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,4]}}""", 4, "more elements than a file can hold")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}""", 0, "more elements than a file can hold")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}""", 0, "needs 18446744073709551616 bytes")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}}""", 4, "data_offsets[1]")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}""", 4, "3 data_offsets; expected 2")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1]}}""", 4, "no data_offsets")]
    [InlineData("""{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}""", 4, "dtype twice")]
    [InlineData("""{"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}}""", 4, "dtype of tensor 'a' is Number")]
    [InlineData("""{"a":{"dtype":"F32","shape":{},"data_offsets":[0,4]}}""", 4, "shape of tensor 'a' is StartObject")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"device":"cpu"}}""", 4, "unknown field 'device'")]
    [InlineData("""{"a":[1]}""", 0, "'a' in the header is StartArray")]
    [InlineData("""{"__metadata__":{"x":1}}""", 0, "metadata 'x' is Number")]
    [InlineData("""{"__metadata__":{"x":"1","x":"2"}}""", 0, "'x' twice")]
    [InlineData("""{"a":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]}}""", 4, "element type F8_E5M2")]
    [InlineData("""{"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}""", 2, "element 0 of the boolean tensor 'a' is 7")]
    [InlineData("[]", 0, "starts with StartArray")]
    [InlineData("{", 0, "not JSON")]
    [InlineData("{} {}", 0, "not JSON")]
    [InlineData("", 0, "not JSON")]
    public void A_header_that_does_not_hold_is_refused_with_its_numbers(string json, int dataLength, string words)
    {
        byte[] data = new byte[dataLength];
        data.AsSpan().Fill(7);

        MalformedFiles.AssertRefused(_folder.Write("bad.safetensors", WithHeader(json, data)), words);
    }

    [Theory]
    [InlineData(ulong.MaxValue, "18446744073709551615")]
    [InlineData((ulong)long.MaxValue + 1, "9223372036854775808")]
    [InlineData(1000ul, "only 2 follow")]
    public void A_header_length_beyond_the_file_is_refused_before_memory_is_taken(ulong length, string words)
    {
        byte[] file = new byte[10];
        BinaryPrimitives.WriteUInt64LittleEndian(file, length);

        MalformedFiles.AssertRefused(_folder.Write("long.safetensors", file), words);
    }

    [Fact]
    public void A_header_beyond_the_formats_own_limit_is_refused()
    {
        // A file with a hole: it is as long as it says and takes no room.
        string path = _folder.File("huge.safetensors");
        using (var stream = new FileStream(path, FileMode.Create))
        {
            byte[] prefix = new byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(prefix, 200_000_000);
            stream.Write(prefix);
            stream.SetLength(200_000_008);
        }

        MalformedFiles.AssertRefused(path, "200000000", "100000000");
    }

    [Fact]
    public void A_tensor_beyond_one_array_is_refused_when_it_is_read()
    {
        byte[] header = WithHeader("""{"a":{"dtype":"U8","shape":[3000000000],"data_offsets":[0,3000000000]}}""", []);
        string path = _folder.Write("big.safetensors", header);
        using (var stream = new FileStream(path, FileMode.Open)) stream.SetLength(header.Length + 3_000_000_000);

        MalformedFiles.AssertRefused(path, "3000000000");
    }

    [Fact]
    public void A_name_that_is_not_there_is_answered_with_those_that_are()
    {
        string path = _folder.Write("a.safetensors", SmallFile());
        using var file = new SafeTensorsFile(path);

        var e = Assert.Throws<TensorFileException>(() => file.Read("x"));

        Assert.Contains("has no tensor 'x'; it has q, m", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("tensors.bin", ".bin")]
    [InlineData("tensors", "no extension")]
    public void An_unknown_extension_is_refused(string name, string words)
        => MalformedFiles.AssertRefused(_folder.Write(name, [1, 2, 3]), words);

    private static byte[] SmallFile()
    {
        using var stream = new MemoryStream();
        SafeTensorsWriter.Write(
            stream,
            [LoadedTensor.Create<float>("q", [1, 2, 3], 3, 1), LoadedTensor.Create<bool>("m", [true], 1)],
            new Dictionary<string, string>(StringComparer.Ordinal) { ["x"] = "y" });
        return stream.ToArray();
    }

    private static byte[] WithHeader(string json, byte[] data)
    {
        byte[] text = Encoding.UTF8.GetBytes(json);
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, text.Length);
        return [.. length, .. text, .. data];
    }
}
