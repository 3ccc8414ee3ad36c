using System.Runtime.InteropServices;
using FusedAttention.Samples.TextGeneration.Model;

namespace FusedAttention.Samples.TextGeneration.Loading;

/// <summary>
/// Reads models in the format of llama2.c, little endian: seven 32-bit sizes, then float32 tensors, each for all layers, in the order below. The output matrix is the embedding.
/// </summary>
internal static class Llama2cFile
{
    public static ModelWeights Load(string path)
    {
        string name = Path.GetFileName(path);
        ReadOnlySpan<byte> bytes = File.ReadAllBytes(path);
        const int HeaderBytes = 7 * sizeof(int);
        if (bytes.Length < HeaderBytes) throw new InvalidDataException($"{name} has {bytes.Length} bytes; a llama2.c model starts with {HeaderBytes} bytes of sizes.");
        ReadOnlySpan<int> sizes = MemoryMarshal.Cast<byte, int>(bytes[..HeaderBytes]);
        foreach (int size in sizes)
            if (size is < 1 or > 1 << 20) throw new InvalidDataException($"{name} is not a llama2.c model with a shared embedding: its sizes are {string.Join(", ", sizes.ToArray())}.");
        (int dim, int hidden, int layerCount, int heads, int keyValueHeads, int vocabulary) = (sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]);
        if (dim % heads != 0 || heads % keyValueHeads != 0) throw new InvalidDataException($"{name} has {heads} heads and {keyValueHeads} key/value heads for dim {dim}.");
        var config = new ModelConfig
        {
            Dim = dim,
            Layers = layerCount,
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            HeadDim = dim / heads,
            FeedForward = hidden,
            Vocabulary = vocabulary,
            Positions = PositionSignal.Rotary,
            TrainedContext = sizes[6],
        };
        int keyWidth = keyValueHeads * config.HeadDim;
        ReadOnlySpan<float> rest = MemoryMarshal.Cast<byte, float>(bytes[HeaderBytes..]);
        Matrix embedding = Next(ref rest, 1, vocabulary, dim)[0];
        Matrix[] attentionNorm = Next(ref rest, layerCount, 1, dim);
        Matrix[] query = Next(ref rest, layerCount, dim, dim);
        Matrix[] key = Next(ref rest, layerCount, keyWidth, dim);
        Matrix[] value = Next(ref rest, layerCount, keyWidth, dim);
        Matrix[] output = Next(ref rest, layerCount, dim, dim);
        Matrix[] feedForwardNorm = Next(ref rest, layerCount, 1, dim);
        Matrix[] gate = Next(ref rest, layerCount, hidden, dim);
        Matrix[] down = Next(ref rest, layerCount, dim, hidden);
        Matrix[] up = Next(ref rest, layerCount, hidden, dim);
        Matrix finalNorm = Next(ref rest, 1, 1, dim)[0];

        var layers = new LayerWeights[layerCount];
        for (int i = 0; i < layers.Length; i++)
            layers[i] = new(attentionNorm[i].Elements, query[i], key[i], value[i], output[i], feedForwardNorm[i].Elements, gate[i], up[i], down[i]);
        return new(config, embedding, layers, finalNorm.Elements);

        Matrix[] Next(ref ReadOnlySpan<float> from, int count, int outputs, int inputs)
        {
            long size = (long)outputs * inputs;
            if (count * size > from.Length) throw new InvalidDataException($"{name} ends too early for its sizes.");
            var matrices = new Matrix[count];
            for (int i = 0; i < count; i++)
            {
                matrices[i] = new(outputs, inputs, from[..(int)size].ToArray());
                from = from[(int)size..];
            }

            return matrices;
        }
    }
}
