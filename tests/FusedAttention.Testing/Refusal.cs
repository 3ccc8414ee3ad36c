using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>Asserts that a call is refused as promised: which argument, with which numbers, and with its output untouched.</summary>
internal static class Refusal
{
    private const float Sentinel = -123.25f;

    /// <param name="parameter">The expected <see cref="ArgumentException.ParamName"/>.</param>
    /// <param name="call">The call; its argument is memory for the output.</param>
    /// <param name="inMessage">What the message must contain.</param>
    public static void Of(string parameter, Action<float[]> call, params string[] inMessage)
    {
        var output = new float[16384];
        Array.Fill(output, Sentinel);
        ArgumentException error = Assert.ThrowsAny<ArgumentException>(() => call(output));
        Assert.Equal(parameter, error.ParamName);
        foreach (string part in inMessage) Assert.Contains(part, error.Message, StringComparison.Ordinal);
        Assert.False(output.AsSpan().ContainsAnyExcept(Sentinel), "The output was written.");
    }

    /// <summary>An input of zeros.</summary>
    public static ReadOnlyTensorSpan<float> In(params ReadOnlySpan<nint> lengths) => In<float>(lengths);

    public static ReadOnlyTensorSpan<T> In<T>(params ReadOnlySpan<nint> lengths) => new(new T[Count(lengths)], lengths);

    /// <summary>An output in given memory.</summary>
    public static TensorSpan<float> Out(float[] memory, params ReadOnlySpan<nint> lengths) => new(memory.AsSpan(0, Count(lengths)), lengths);

    private static int Count(ReadOnlySpan<nint> lengths)
    {
        nint count = 1;
        foreach (nint length in lengths) count *= length;
        return (int)count;
    }
}
