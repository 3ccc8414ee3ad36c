using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Xunit;

namespace FusedAttention.Interop.Tests;

/// <summary>The examples with ONNX Runtime of docs/interop.md.</summary>
public sealed class OnnxRuntimeExamples
{
    [Fact]
    public void OnnxValues()
    {
        float[] q = Numbers(1, 8 * 16 * 64), k = Numbers(2, 8 * 16 * 64), v = Numbers(3, 8 * 16 * 64);
        using OrtValue query = OrtValue.CreateTensorValueFromMemory(q, [1, 8, 16, 64]), key = OrtValue.CreateTensorValueFromMemory(k, [1, 8, 16, 64]), value = OrtValue.CreateTensorValueFromMemory(v, [1, 8, 16, 64]);

        // README: OnnxValues
        // Values of a session, [batch, head, token, dim], in memory of the CPU: read and written in place.
        using OrtValue output = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, TensorElementType.Float, [1, 8, 16, 64]);
        AttentionStrides headMajor = AttentionStrides.HeadMajor(heads: 8, tokens: 16, dim: 64);
        var shape = new AttentionShape(batch: 1, queryLength: 16, keyLength: 16, queryHeads: 8, keyValueHeads: 8, keyDim: 64)
        {
            QueryStrides = headMajor, KeyStrides = headMajor, ValueStrides = headMajor, OutputStrides = headMajor,
        };
        Attention.Forward(
            query.GetTensorDataAsSpan<float>(), key.GetTensorDataAsSpan<float>(), value.GetTensorDataAsSpan<float>(), output.GetTensorMutableDataAsSpan<float>(), shape,
            new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        float[] expected = new float[q.Length];
        Attention.Forward<float, float>(q, k, v, expected, shape, new AttentionOptions { Mask = AttentionMask.Causal });
        Assert.Equal(expected, output.GetTensorDataAsSpan<float>());
        Assert.Equal(v[0], expected[0], 1e-6f);
    }

    [Fact]
    public void OnnxHalves()
    {
        Float16[] k = [.. Numbers(2, 16 * 2 * 64).Select(static x => (Float16)x)], v = [.. Numbers(3, 16 * 2 * 64).Select(static x => (Float16)x)];
        using OrtValue key = OrtValue.CreateTensorValueFromMemory(k, [1, 16, 2, 64]), value = OrtValue.CreateTensorValueFromMemory(v, [1, 16, 2, 64]);
        float[] query = Numbers(1, 8 * 64), output = new float[8 * 64];

        // README: OnnxHalves
        // ONNX Runtime has 16-bit types of its own, with the bits of Half and BFloat16.
        ReadOnlySpan<Half> keys = MemoryMarshal.Cast<Float16, Half>(key.GetTensorDataAsSpan<Float16>()), values = MemoryMarshal.Cast<Float16, Half>(value.GetTensorDataAsSpan<Float16>());
        var shape = new AttentionShape(batch: 1, queryLength: 1, keyLength: 16, queryHeads: 8, keyValueHeads: 2, keyDim: 64);
        Attention.Forward(query, keys, values, output, shape);
        // README: end
        float[] expected = new float[8 * 64];
        Half[] ownKeys = [.. k.Select(static x => (Half)(float)x)], ownValues = [.. v.Select(static x => (Half)(float)x)];
        Attention.Forward<float, Half>(query, ownKeys, ownValues, expected, shape);
        Assert.Equal(expected, output);
        Assert.NotEqual(0, output[^1]);
    }

    private static float[] Numbers(int seed, int count)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (random.NextSingle() * 2) - 1)];
    }
}
