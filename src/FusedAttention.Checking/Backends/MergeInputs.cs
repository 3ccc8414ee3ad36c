using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Backends;

/// <summary>The arguments of a merge.</summary>
/// <param name="Outputs"><c>[parts, queries, heads, dim]</c>.</param>
/// <param name="LogSumExps"><c>[parts, heads, queries]</c> of F32.</param>
/// <param name="OutputType">Element type of the result.</param>
/// <param name="SinkLogits">One a head; empty for none.</param>
public sealed record MergeInputs(LoadedTensor Outputs, LoadedTensor LogSumExps, TensorElementType OutputType, float[] SinkLogits);

/// <summary>What a merge gave.</summary>
/// <param name="Output"><c>[queries, heads, dim]</c>.</param>
/// <param name="LogSumExp"><c>[heads, queries]</c> of F32, sinks included.</param>
public sealed record MergeResult(LoadedTensor Output, LoadedTensor LogSumExp);
