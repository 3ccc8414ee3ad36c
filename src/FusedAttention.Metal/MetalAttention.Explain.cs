using System.Text;
using FusedAttention.Metal.Calls;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Planning;
using FusedAttention.Problems;

namespace FusedAttention;

public static unsafe partial class MetalAttention
{
    /// <summary>What a dense call of this shape would run on a device, and why, without running or compiling it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="device">The device.</param>
    /// <param name="shape">The sizes of the call.</param>
    /// <param name="options">The options of the call.</param>
    /// <param name="operands">The optional tensors that the call will have, and whether its tensors may begin anywhere.</param>
    /// <exception cref="ArgumentException">The shape, the types or the options cannot be computed on.</exception>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions or types (<see cref="Q8Block"/>, or a score function over keys of 8 bits), scale, soft cap or a slope is beyond what 32-bit arithmetic is trusted with, or functions have more than 16 tables (14 over keys of 8 bits) or 64 parameters; the message has the number and its limits.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        MetalDevice device, in AttentionShape shape, AttentionOptions? options = null, OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        return Explanation(device, ShapeProblem.Dense<TQuery, TKeyValue>(shape, options, operands), options, operands);
    }

    /// <summary>What a packed or paged call would run on a device, and why, without running or compiling it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="device">The device.</param>
    /// <param name="shape">Heads and dimensions; its batch and lengths are ignored.</param>
    /// <param name="queryLengths">Query tokens of each sequence.</param>
    /// <param name="keyLengths">Keys of each sequence.</param>
    /// <param name="blockSize">Tokens a block of a paged cache; null for a packed call.</param>
    /// <param name="options">The options of the call.</param>
    /// <param name="operands">The optional tensors that the call will have, and whether its tensors may begin anywhere.</param>
    /// <exception cref="ArgumentException">The shape, the lengths, the types or the options cannot be computed on.</exception>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions or types (<see cref="Q8Block"/>, or a score function over keys of 8 bits), scale, soft cap or a slope is beyond what 32-bit arithmetic is trusted with, or functions have more than 16 tables (14 over keys of 8 bits) or 64 parameters; the message has the number and its limits.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        MetalDevice device, in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null,
        OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        return Explanation(device, ShapeProblem.Sequences<TQuery, TKeyValue>(shape, queryLengths, keyLengths, blockSize, options, operands), options, operands);
    }

    /// <summary>Compiles what a dense call of this shape would run, so that the first such call does not wait for the compiler. What is compiled already costs nothing. The first call of
    /// this on a device also runs the self-test of its matrices, which waits for the GPU.</summary>
    /// <exception cref="MetalException">A kernel does not compile; the message has the compiler's log.</exception>
    /// <inheritdoc cref="Explain{TQuery, TKeyValue}(MetalDevice, in AttentionShape, AttentionOptions, OperandKinds)"/>
    public static void Prepare<TQuery, TKeyValue>(MetalDevice device, in AttentionShape shape, AttentionOptions? options = null, OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        Prepare(device, ShapeProblem.Dense<TQuery, TKeyValue>(shape, options, operands), operands);
    }

    /// <summary>Compiles what a packed or paged call would run, so that the first such call does not wait for the compiler. What is compiled already costs nothing. The first call of
    /// this on a device also runs the self-test of its matrices, which waits for the GPU.</summary>
    /// <exception cref="MetalException">A kernel does not compile; the message has the compiler's log.</exception>
    /// <inheritdoc cref="Explain{TQuery, TKeyValue}(MetalDevice, in AttentionShape, ReadOnlySpan{int}, ReadOnlySpan{int}, int?, AttentionOptions, OperandKinds)"/>
    public static void Prepare<TQuery, TKeyValue>(
        MetalDevice device, in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null,
        OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        Prepare(device, ShapeProblem.Sequences<TQuery, TKeyValue>(shape, queryLengths, keyLengths, blockSize, options, operands), operands);
    }

    private static void Prepare(MetalDevice device, AttentionProblem problem, OperandKinds operands)
    {
        var plan = MetalPlan.Of(problem, device.Description);
        device.Prepare(plan.Functions);
        if (operands.HasFlag(OperandKinds.Unaligned)) device.Prepare(plan.UnalignedFunctions);
    }

    private static AttentionExplanation Explanation(MetalDevice device, AttentionProblem problem, AttentionOptions options, OperandKinds operands)
    {
        var plan = MetalPlan.Of(problem, device.ExpectedDescription);
        bool isAligned = MetalPlan.IsAligned(problem) && !operands.HasFlag(OperandKinds.Unaligned);
        return new()
        {
            Backend = AttentionCall.Backend,
            Device = device.ToString(),
            Kernel = plan.Kernel,
            Threads = 0,
            WorkItems = plan.WorkItems,
            FloatingPointOperations = 2 * problem.MultiplyAdds(),
            KeyValueBytes = problem.KeyValueBytes(),
            ScratchBytes = plan.ScratchBytes,
            Details = $"""
                shape            {problem.SequenceCount} sequences, {problem.QueryHeads} query heads over {problem.KeyValueHeads}, dims {problem.KeyDim}/{problem.ValueDim}, {problem.QueryType} over {problem.KeyValueType}{(problem.BlockSize > 0 ? $", blocks of {problem.BlockSize}" : "")}
                mask             {options.Mask}, {options.Alignment}
                loads            {(isAligned ? $"{TileTable.VectorElements} elements at a time" : $"one element at a time: strides or beginnings are no multiples of {TileTable.VectorElements} elements")}
                {plan.Details}
                """ + (device.IsExamined ? "" : "\n                 (the device's layout of simdgroup matrices is taken for the known one; the first call will look)") + Functions(options),
        };
    }

    /// <summary>The call's functions as operations, and as the kernels have them.</summary>
    private static string Functions(AttentionOptions options)
    {
        var text = new StringBuilder();
        FunctionListing.AppendTo(text, options);
        if (text.Length == 0) return "";
        text.Append("in Metal\n");
        foreach (string line in FunctionText.Sources(options.ScoreFunction?.Graph.Form, options.MaskFunction?.Graph.Form).Split('\n', StringSplitOptions.RemoveEmptyEntries)) text.Append($"                 {line}\n");
        return "\n" + text.ToString().TrimEnd('\n');
    }
}
