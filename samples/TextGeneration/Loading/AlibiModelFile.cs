using System.Numerics.Tensors;
using FusedAttention.Checking.Formats;
using FusedAttention.Samples.TextGeneration.Model;

namespace FusedAttention.Samples.TextGeneration.Loading;

/// <summary>Reads kjv-alibi-6m: safetensors in half precision, sizes in the metadata. Weights are widened to float once, which is exact.</summary>
internal static class AlibiModelFile
{
    public static ModelWeights Load(string path)
    {
        using TensorFile file = TensorFile.Open(path);
        if (Text("positional") is not "alibi") throw new InvalidDataException($"{file.Path}: 'positional' is '{Text("positional")}', but must be 'alibi'.");
        var config = new ModelConfig
        {
            Dim = Number("dim"),
            Layers = Number("layers"),
            Heads = Number("heads"),
            KeyValueHeads = Number("kv_heads"),
            HeadDim = Number("head_dim"),
            FeedForward = Number("ffn"),
            Vocabulary = 256,
            Positions = PositionSignal.Alibi,
            TrainedContext = Number("train_context"),
            NormEpsilon = float.Parse(Text("norm_eps")),
        };
        int queryWidth = config.Heads * config.HeadDim, keyWidth = config.KeyValueHeads * config.HeadDim;
        var layers = new LayerWeights[config.Layers];
        for (int i = 0; i < layers.Length; i++)
        {
            string layer = $"layers.{i}.";
            layers[i] = new(
                Read(layer + "attention_norm.weight", config.Dim),
                ReadMatrix(layer + "wq.weight", queryWidth, config.Dim),
                ReadMatrix(layer + "wk.weight", keyWidth, config.Dim),
                ReadMatrix(layer + "wv.weight", keyWidth, config.Dim),
                ReadMatrix(layer + "wo.weight", config.Dim, queryWidth),
                Read(layer + "ffn_norm.weight", config.Dim),
                ReadMatrix(layer + "w_gate.weight", config.FeedForward, config.Dim),
                ReadMatrix(layer + "w_up.weight", config.FeedForward, config.Dim),
                ReadMatrix(layer + "w_down.weight", config.Dim, config.FeedForward));
        }

        return new(config, ReadMatrix("embedding.weight", config.Vocabulary, config.Dim), layers, Read("norm.weight", config.Dim));

        string Text(string key) => file.Metadata.TryGetValue(key, out string? value)
            ? value
            : throw new InvalidDataException($"{file.Path}: the metadata have no '{key}'.");

        int Number(string key) => int.TryParse(Text(key), out int number) && number > 0
            ? number
            : throw new InvalidDataException($"{file.Path}: '{key}' is '{Text(key)}', which is not a positive number.");

        Matrix ReadMatrix(string name, int outputs, int inputs) => new(outputs, inputs, Read(name, outputs, inputs));

        float[] Read(string name, params ReadOnlySpan<long> shape)
        {
            LoadedTensor tensor = file.Read(name);
            if (!tensor.Shape.AsSpan().SequenceEqual(shape)) throw new InvalidDataException($"{file.Path}: {tensor} should be {LoadedTensor.Describe(shape)}.");
            if (tensor.ElementType != TensorElementType.Float16) return tensor.ConvertTo(TensorElementType.Float32).Elements<float>().ToArray();
            float[] elements = new float[tensor.ElementCount];
            TensorPrimitives.ConvertToSingle(tensor.Elements<Half>(), elements);
            return elements;
        }
    }
}
