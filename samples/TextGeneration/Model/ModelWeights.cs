namespace FusedAttention.Samples.TextGeneration.Model;

/// <summary>A matrix <c>[Outputs, Inputs]</c>, row by row: it is applied as <c>y = W x</c>.</summary>
internal sealed record Matrix(int Outputs, int Inputs, float[] Elements)
{
    public ReadOnlySpan<float> Row(int output) => Elements.AsSpan(output * Inputs, Inputs);
}

/// <summary>The weights of one layer.</summary>
internal sealed record LayerWeights(
    float[] AttentionNorm, Matrix Query, Matrix Key, Matrix Value, Matrix Output, float[] FeedForwardNorm, Matrix Gate, Matrix Up, Matrix Down);

/// <summary>The weights of a model. The embedding is the output matrix too.</summary>
internal sealed record ModelWeights(ModelConfig Config, Matrix Embedding, LayerWeights[] Layers, float[] FinalNorm)
{
    public long Parameters => Embedding.Elements.LongLength + FinalNorm.Length + Layers.Sum(static layer =>
        layer.AttentionNorm.LongLength + layer.Query.Elements.Length + layer.Key.Elements.Length + layer.Value.Elements.Length + layer.Output.Elements.Length
        + layer.FeedForwardNorm.Length + layer.Gate.Elements.Length + layer.Up.Elements.Length + layer.Down.Elements.Length);
}
