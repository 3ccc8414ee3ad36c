using System.Runtime.InteropServices;
using Xunit;
using static TorchSharp.torch;

namespace FusedAttention.Interop.Tests;

/// <summary>The examples with TorchSharp of docs/interop.md, against torch's own scaled_dot_product_attention.</summary>
public sealed class TorchExamples
{
    /// <summary>Why TorchSharp's native libraries do not load here, as on Debian 12, whose libstdc++ lacks GLIBCXX_3.4.32; null where they do.</summary>
    private static readonly string? Missing = Load();

    public TorchExamples() => Assert.SkipWhen(Missing is not null, Missing ?? "");

    private static string? Load()
    {
        try
        {
            NewDisposeScope().Dispose();
            return null;
        }
        catch (Exception e) when (e.GetBaseException() is NotSupportedException or DllNotFoundException)
        {
            return "TorchSharp does not load its native libraries here: is libstdc++ older than that of GCC 13?"; // its own message is a page of paths
        }
    }

    [Fact]
    public void TorchTensors()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        Tensor query = randn(2, 8, 16, 64), key = randn(2, 8, 16, 64), value = randn(2, 8, 16, 64);

        // README: TorchTensors
        // Contiguous tensors of the CPU, [batch, head, token, dim]: their memory is read and written in place.
        Tensor output = empty_like(query);
        AttentionStrides headMajor = AttentionStrides.HeadMajor(heads: 8, tokens: 16, dim: 64);
        var shape = new AttentionShape(batch: 2, queryLength: 16, keyLength: 16, queryHeads: 8, keyValueHeads: 8, keyDim: 64)
        {
            QueryStrides = headMajor, KeyStrides = headMajor, ValueStrides = headMajor, OutputStrides = headMajor,
        };
        static Span<float> Elements(Tensor tensor) => MemoryMarshal.Cast<byte, float>(tensor.bytes);
        Attention.Forward<float, float>(Elements(query), Elements(key), Elements(value), Elements(output), shape, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        Tensor expected = nn.functional.scaled_dot_product_attention(query, key, value, is_casual: true);
        Assert.InRange((expected - output).abs().max().item<float>(), 0, 1e-5f);
    }

    [Fact]
    public void TorchHalves()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        Tensor query = randn(1, 8, 16, 64), key = randn(1, 2, 16, 64).to(float16), value = randn(1, 2, 16, 64).to(float16);

        // README: TorchHalves
        // float16 is Half, bfloat16 is BFloat16, and two key/value heads serve eight query heads without being repeated.
        Tensor output = empty_like(query);
        AttentionStrides ofQueries = AttentionStrides.HeadMajor(heads: 8, tokens: 16, dim: 64), ofKeys = AttentionStrides.HeadMajor(heads: 2, tokens: 16, dim: 64);
        var shape = new AttentionShape(batch: 1, queryLength: 16, keyLength: 16, queryHeads: 8, keyValueHeads: 2, keyDim: 64)
        {
            QueryStrides = ofQueries, KeyStrides = ofKeys, ValueStrides = ofKeys, OutputStrides = ofQueries,
        };
        Attention.Forward<float, Half>(
            MemoryMarshal.Cast<byte, float>(query.bytes), MemoryMarshal.Cast<byte, Half>(key.bytes), MemoryMarshal.Cast<byte, Half>(value.bytes),
            MemoryMarshal.Cast<byte, float>(output.bytes), shape);
        // README: end
        Tensor expected = nn.functional.scaled_dot_product_attention(query, key.to(float32).repeat_interleave(4, 1), value.to(float32).repeat_interleave(4, 1));
        Assert.InRange((expected - output).abs().max().item<float>(), 0, 1e-5f);
    }

    [Fact]
    public void TorchViews()
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        Tensor projected = randn([1, 16, 3, 8, 64]);

        // README: TorchViews
        // A fused projection [batch, token, 3, head, dim]: its three views are not contiguous, and are read where they are, by torch's own strides.
        Tensor query = projected.select(2, 0), key = projected.select(2, 1), value = projected.select(2, 2), output = empty(1, 16, 8, 64);
        static AttentionStrides Strides(Tensor tensor) => new(Batch: tensor.stride(0), Token: tensor.stride(1), Head: tensor.stride(2));
        var shape = new AttentionShape(batch: 1, queryLength: 16, keyLength: 16, queryHeads: 8, keyValueHeads: 8, keyDim: 64)
        {
            QueryStrides = Strides(query), KeyStrides = Strides(key), ValueStrides = Strides(value), OutputStrides = Strides(output),
        };
        ReadOnlySpan<float> all = MemoryMarshal.Cast<byte, float>(projected.bytes);
        Attention.Forward<float, float>(
            all[(int)query.storage_offset()..], all[(int)key.storage_offset()..], all[(int)value.storage_offset()..], MemoryMarshal.Cast<byte, float>(output.bytes), shape);
        // README: end
        Tensor expected = nn.functional.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2);
        Assert.InRange((expected - output).abs().max().item<float>(), 0, 1e-5f);
    }
}
