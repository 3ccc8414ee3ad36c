using System.Text;

namespace FusedAttention.Comparison.Onnx;

/// <summary>ONNX's numbers for element types.</summary>
internal enum OnnxType
{
    Float = 1,
    Int32 = 6,
    Float16 = 10,
    BFloat16 = 16,
}

/// <summary>An input or output of the model.</summary>
internal sealed record OnnxValue(string Name, OnnxType Type, params long[] Dims)
{
    public long Bytes => Dims.Aggregate(Type is OnnxType.Float or OnnxType.Int32 ? 4L : 2L, (bytes, dim) => bytes * dim);
}

/// <summary>An attribute of a node: an integer, or a float.</summary>
internal readonly record struct OnnxAttribute(string Name, long Integer, float? Single = null);

/// <summary>A model of one node, as the bytes of its protobuf message. Field numbers are those of onnx.proto.</summary>
internal static class OnnxModel
{
    public static byte[] OneNode(
        string operatorName, string domain, int opset, IEnumerable<OnnxAttribute> attributes, IReadOnlyList<OnnxValue> inputs, IReadOnlyList<OnnxValue> outputs)
    {
        var node = new Message();
        foreach (OnnxValue input in inputs) node.Text(1, input.Name);
        foreach (OnnxValue output in outputs) node.Text(2, output.Name);
        node.Text(4, operatorName);
        foreach (OnnxAttribute attribute in attributes) node.Nested(5, Attribute(attribute));
        node.Text(7, domain);

        var graph = new Message();
        graph.Nested(1, node);
        graph.Text(2, "attention");
        foreach (OnnxValue input in inputs) graph.Nested(11, ValueInfo(input));
        foreach (OnnxValue output in outputs) graph.Nested(12, ValueInfo(output));

        var model = new Message();
        model.Number(1, opset >= 23 ? 11 : 9); // the version of the format that came with the operator set
        model.Nested(7, graph);
        model.Nested(8, OperatorSet("", opset));
        model.Nested(8, OperatorSet("com.microsoft", 1));
        return model.ToArray();
    }

    private static Message Attribute(OnnxAttribute attribute)
    {
        const int FloatKind = 1;
        const int IntegerKind = 2;
        var message = new Message();
        message.Text(1, attribute.Name);
        if (attribute.Single is float single) message.Single(2, single);
        else message.Number(3, attribute.Integer);
        message.Number(20, attribute.Single is null ? IntegerKind : FloatKind);
        return message;
    }

    private static Message ValueInfo(OnnxValue value)
    {
        var shape = new Message();
        foreach (long dim in value.Dims)
        {
            var dimension = new Message();
            dimension.Number(1, dim);
            shape.Nested(1, dimension);
        }

        var tensor = new Message();
        tensor.Number(1, (long)value.Type);
        tensor.Nested(2, shape);
        var type = new Message();
        type.Nested(1, tensor);
        var info = new Message();
        info.Text(1, value.Name);
        info.Nested(2, type);
        return info;
    }

    private static Message OperatorSet(string domain, int version)
    {
        var message = new Message();
        message.Text(1, domain);
        message.Number(2, version);
        return message;
    }

    /// <summary>A protobuf message that grows at its end.</summary>
    private sealed class Message
    {
        private readonly List<byte> _bytes = [];

        public byte[] ToArray() => [.. _bytes];

        public void Number(int field, long value)
        {
            Varint((ulong)field << 3);
            Varint((ulong)value);
        }

        public void Single(int field, float value)
        {
            Varint(((ulong)field << 3) | 5);
            _bytes.AddRange(BitConverter.GetBytes(value));
        }

        public void Text(int field, string value) => Delimited(field, Encoding.UTF8.GetBytes(value));

        public void Nested(int field, Message message) => Delimited(field, message.ToArray());

        private void Delimited(int field, byte[] content)
        {
            Varint(((ulong)field << 3) | 2);
            Varint((ulong)content.Length);
            _bytes.AddRange(content);
        }

        private void Varint(ulong value)
        {
            for (; value > 127; value >>= 7) _bytes.Add((byte)(value | 128));
            _bytes.Add((byte)value);
        }
    }
}
