using System.Globalization;
using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Conformance;

/// <summary>
/// The score and mask functions of the reference form by their names: the library's own where it has them, and those that are there to tell kernels apart. What they capture are tensors and metadata of the case.
/// </summary>
/// <param name="metadata">The case's metadata.</param>
/// <param name="tensor">A tensor of the case by name; throws if it is not there.</param>
/// <param name="heads">Query heads.</param>
internal sealed class ReferenceFunctions(IReadOnlyDictionary<string, string> metadata, Func<string, TensorElementType, LoadedTensor> tensor, int heads)
{
    private const string None = "none";

    /// <summary>The case's score functions, from left to right; null for none.</summary>
    public ScoreFunction? Score => Names("score_fn").Select(ScoreOf).Aggregate((ScoreFunction?)null, static (all, next) => all?.Then(next) ?? next);

    /// <summary>The case's mask functions, all of which must keep a key; null for none.</summary>
    public MaskFunction? Mask => Names("mask_fn").Select(MaskOf).Aggregate((MaskFunction?)null, static (all, next) => all?.And(next) ?? next);

    private string[] Names(string entry) => metadata.TryGetValue(entry, out string? names) && !names.Equals(None, StringComparison.Ordinal) ? names.Split('+') : [];

    private ScoreFunction ScoreOf(string name) => name switch
    {
        "t5" => ScoreFunction.Of(new T5RelativeBias(tensor("t5_table", TensorElementType.Float32).Elements<float>(), heads, WholeNumber("t5_bidirectional") != 0, WholeNumber("t5_max_distance"))),
        "token_bias" => ScoreFunction.Of(new TokenBias(Floats("token_q"), Floats("token_k"))),
        "sqrt_past" => ScoreFunction.Of(default(PastBias)),
        "stride_neginf" => ScoreFunction.Of(new StrideByInfinity(WholeNumber("stride_neginf"))),
        "temperature" => ScoreFunction.Of(new HeadTemperature(Floats("temperature"))),
        "logn" => ScoreFunction.Of(new LogNScaling(WholeNumber("logn_train"))),
        "ssmax" => ScoreFunction.Of(new ScalableSoftmax(Floats("ssmax_scale"), Integers("ssmax_keys"))),
        "alibi2d" => ScoreFunction.Of(new GridAlibi(Floats("alibi2d_slopes"), WholeNumber("alibi2d_width"), IsEuclidean())),
        "tanh_cap" => ScoreFunction.Of(new TanhCap(Number("tanh_cap"))),
        "mixed" => ScoreFunction.Of(new MixedBias(Floats("mixed_tau"), Number("mixed_clip"))),
        _ => throw new NotReferenceFormException($"score_fn names '{name}', which is no function of the reference form"),
    };

    private MaskFunction MaskOf(string name) => name switch
    {
        "document" => MaskFunction.Of(new DocumentMask(Integers("document_q"), Integers("document_k"))),
        "prefix_lm" => MaskFunction.Of(new PrefixMask(Integers("prefix_len"))),
        "dilated" => MaskFunction.Of(new DilatedWindow(WholeNumber("dilated_window"), WholeNumber("dilated_step"), WholeNumber("dilated_both") != 0)),
        "head_mod" => MaskFunction.Of(new HeadStride(WholeNumber("head_mod"))),
        "global_local" => MaskFunction.Of(new GlobalLocalMask(WholeNumber("global_keys"), WholeNumber("local_window"))),
        _ => throw new NotReferenceFormException($"mask_fn names '{name}', which is no function of the reference form"),
    };

    private ScoreTable Floats(string name)
    {
        LoadedTensor values = tensor(name, TensorElementType.Float32);
        return values.Rank == 2 ? new(values.Elements<float>(), (int)values.Shape[0], (int)values.Shape[1]) : new(values.Elements<float>());
    }

    private ScoreTable Integers(string name)
    {
        LoadedTensor values = tensor(name, TensorElementType.Int32);
        return values.Rank == 2 ? new(values.Elements<int>(), (int)values.Shape[0], (int)values.Shape[1]) : new(values.Elements<int>());
    }

    private bool IsEuclidean()
    {
        string metric = Text("alibi2d_metric");
        return metric switch { "l1" => false, "l2" => true, _ => throw new NotReferenceFormException($"alibi2d_metric is '{metric}', not l1 or l2") };
    }

    private int WholeNumber(string name) => int.TryParse(Text(name), NumberStyles.Integer, CultureInfo.InvariantCulture, out int value)
        ? value
        : throw new NotReferenceFormException($"{name} is '{Text(name)}', not a whole number");

    private float Number(string name) => double.TryParse(Text(name), NumberStyles.Float, CultureInfo.InvariantCulture, out double value)
        ? (float)value
        : throw new NotReferenceFormException($"{name} is '{Text(name)}', not a number");

    private string Text(string name) => metadata.TryGetValue(name, out string? text) ? text : throw new NotReferenceFormException($"the metadata has no '{name}'");
}
