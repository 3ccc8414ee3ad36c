using System.Globalization;
using System.Numerics.Tensors;
using FusedAttention.Checking.Formats;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>
/// The ONNX standard's own tests of its Attention operator (opset 23 and 24), each as one call: [B, H, N, D] tensors as permuted tensor spans without a
/// copy, an <c>attn_mask</c> as boolean mask or bias, a past as a longer key tensor, and the operator's causal rule as query offsets.
/// </summary>
/// <remarks>
/// Limits: inputs lie in [0, 1), so |y| &lt; 1 and the scores are below 10. Float: both sides round like float kernels, each within 16 units of 2^-24 of the
/// exact result: 2e-6. Half: the expected y and ours are each one rounding away from nearly the same number: 2 x 2^-12, and 1e-5 for the float arithmetic.
/// </remarks>
public sealed class OnnxAttentionTests(ITestOutputHelper output)
{
    private const string Absent = "(none)";
    private const string Reason = "The ONNX operator's test data (shared/data/onnx-attention) do not lie beside the checkout.";

    public static TheoryData<string> Cases => ReferenceData.Beside("onnx-attention") is string folder ? [.. ReferenceData.Names(folder)] : [Absent];

    [Fact]
    public void All_tests_of_the_set_are_there()
    {
        Assert.SkipWhen(ReferenceData.Beside("onnx-attention") is null, Reason);
        Assert.Equal(53, Cases.Count);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Output_y_is_as_the_standard_says(string name)
    {
        Assert.SkipWhen(string.Equals(name, Absent, StringComparison.Ordinal), Reason);
        using var file = new SafeTensorsFile(Path.Combine(ReferenceData.Beside("onnx-attention")!, name + ".safetensors"));
        string[] notCompared = [.. file.Names.Where(n => n is "present_key" or "present_value" or "qk_matmul_output")];
        output.WriteLine(notCompared.Length == 0 ? "y is the only output." : $"Compared: y. Not compared: {string.Join(", ", notCompared)}.");
        if (file.Read("q").ElementType == TensorElementType.Float16) Run<Half>(file, 0.0005);
        else Run<float>(file, 2e-6);
    }

    private static void Run<T>(SafeTensorsFile file, double limit)
        where T : unmanaged
    {
        int batch = Number(file, "batch");
        int heads = Number(file, "q_num_heads");
        int keyValueHeads = Number(file, "kv_num_heads");
        int queries = Number(file, "q_len");
        int keys = Number(file, "kv_total_len");
        int past = Number(file, "past_len");
        int dim = Number(file, "head_size");
        int valueDim = Number(file, "v_head_size");
        bool isHeadMajor = file.Metadata["layout"] is "4d";

        // nonpad_kv_seqlen: how many keys of each batch row are real.
        int[]? nonPad = file.Contains("nonpad_kv_seqlen") ? [.. file.Read("nonpad_kv_seqlen").ToDoubles().Select(x => (int)x)] : null;
        var operands = new AttentionOperands
        {
            KeyLengths = nonPad,
            QueryOffsets = nonPad is null ? null : nonPad.Select(n => (long)n - queries).ToArray(),
        };
        SetMask<T>(ref operands, file, keys);
        var options = new AttentionOptions
        {
            Scale = float.Parse(file.Metadata["scale"], CultureInfo.InvariantCulture),
            SoftCap = float.Parse(file.Metadata["softcap"], CultureInfo.InvariantCulture),
            Mask = Number(file, "is_causal") != 0 ? AttentionMask.Causal : AttentionMask.Full,
            QueryOffset = past,
        };

        T[] query = file.Read("q").Elements<T>().ToArray();
        T[] key = WithPast<T>(file, "k", "past_key", batch, keyValueHeads, past, keys, dim, isHeadMajor);
        T[] value = WithPast<T>(file, "v", "past_value", batch, keyValueHeads, past, keys, valueDim, isHeadMajor);
        var result = new T[batch * queries * heads * valueDim];
        Attention.Forward<T, T>(
            View<T>(query, batch, queries, heads, dim, isHeadMajor),
            View<T>(key, batch, keys, keyValueHeads, dim, isHeadMajor),
            View<T>(value, batch, keys, keyValueHeads, valueDim, isHeadMajor),
            View<T>(result, batch, queries, heads, valueDim, isHeadMajor),
            options, operands);

        T[] expected = file.Read("y").Elements<T>().ToArray();
        Assert.Equal(expected.Length, result.Length);
        for (int i = 0; i < result.Length; i++)
        {
            double error = Math.Abs((double)Elements.ToSingle(result[i]) - Elements.ToSingle(expected[i]));
            Assert.True(error <= limit, $"y[{i}] is {result[i]} but should be {expected[i]}: error {error:G3}, limit {limit:G3}.");
        }
    }

    /// <summary>[B, H, N, D] or [B, N, H * D] memory as a tensor span [B, N, H, D].</summary>
    private static TensorSpan<T> View<T>(T[] memory, int batch, int tokens, int heads, int dim, bool isHeadMajor)
    {
        nint head = isHeadMajor ? tokens * dim : dim;
        nint token = isHeadMajor ? dim : heads * dim;
        // A dimension of length 1 must carry stride 0.
        return new(
            memory, 0, [batch, tokens, heads, dim],
            [batch == 1 ? 0 : tokens * heads * dim, tokens == 1 ? 0 : token, heads == 1 ? 0 : head, dim == 1 ? 0 : 1]);
    }

    /// <summary>The concatenation of past [B, H, P, D] and new keys in the layout of the new ones; without a past, the new ones themselves.</summary>
    private static T[] WithPast<T>(SafeTensorsFile file, string name, string pastName, int batch, int heads, int past, int total, int dim, bool isHeadMajor)
        where T : unmanaged
    {
        T[] current = file.Read(name).Elements<T>().ToArray();
        if (past == 0) return current;
        T[] earlier = file.Read(pastName).Elements<T>().ToArray();
        var all = new T[batch * heads * total * dim];
        TensorSpan<T> target = View(all, batch, total, heads, dim, isHeadMajor);
        TensorSpan<T> old = View(earlier, batch, past, heads, dim, isHeadMajor: true);
        TensorSpan<T> recent = View(current, batch, total - past, heads, dim, isHeadMajor);
        for (nint b = 0; b < batch; b++)
        for (nint t = 0; t < total; t++)
        for (nint h = 0; h < heads; h++)
        for (nint d = 0; d < dim; d++) target[b, t, h, d] = t < past ? old[b, t, h, d] : recent[b, t - past, h, d];
        return all;
    }

    /// <summary>attn_mask: boolean or additive, broadcast by right alignment, its last axis padded with "not allowed" up to the number of keys.</summary>
    private static void SetMask<T>(ref AttentionOperands operands, SafeTensorsFile file, int keys)
        where T : unmanaged
    {
        if (!file.Contains("attn_mask")) return;
        LoadedTensor mask = file.Read("attn_mask");
        nint[] lengths = [.. mask.Shape.Select(n => (nint)n)];
        int width = (int)lengths[^1];
        lengths[^1] = keys;
        if (mask.ElementType == TensorElementType.Boolean) operands.BooleanMask = new(Widen(mask.Elements<bool>(), width, keys, padding: false), lengths);
        else if (typeof(T) == typeof(Half)) operands.Bias = new ReadOnlyTensorSpan<Half>(Widen(mask.Elements<Half>(), width, keys, Half.NegativeInfinity), lengths);
        else operands.Bias = new ReadOnlyTensorSpan<float>(Widen(mask.Elements<float>(), width, keys, float.NegativeInfinity), lengths);
    }

    private static T[] Widen<T>(ReadOnlySpan<T> rows, int width, int target, T padding)
    {
        var widened = new T[rows.Length / width * target];
        Array.Fill(widened, padding);
        for (int row = 0; row < rows.Length / width; row++) rows.Slice(row * width, width).CopyTo(widened.AsSpan(row * target));
        return widened;
    }

    private static int Number(SafeTensorsFile file, string name) => int.Parse(file.Metadata[name], CultureInfo.InvariantCulture);
}
