using System.Text;
using FusedAttention.Cuda.Calls;
using FusedAttention.Cuda.Planning;
using FusedAttention.Planning;
using FusedAttention.Problems;

namespace FusedAttention;

public static unsafe partial class CudaAttention
{
    /// <summary>What a dense call of this shape would run on a device, and why, without running or loading it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="device">The device.</param>
    /// <param name="shape">The sizes of the call.</param>
    /// <param name="options">The options of the call.</param>
    /// <param name="operands">The optional tensors that the call will have, and whether its tensors may begin anywhere.</param>
    /// <exception cref="ArgumentException">The shape, the types or the options cannot be computed on.</exception>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions, scale, soft cap or a slope is beyond what 32-bit arithmetic is trusted with, or functions have more than 16 tables or 64 parameters; the message has the number and its limits.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        CudaDevice device, in AttentionShape shape, AttentionOptions? options = null, OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        return Explanation(device, ShapeProblem.Dense<TQuery, TKeyValue>(shape, options, operands), options, operands);
    }

    /// <summary>What a packed or paged call would run on a device, and why, without running or loading it.</summary>
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
    /// <exception cref="NotSupportedException">No kernel takes these dimensions, scale, soft cap or a slope is beyond what 32-bit arithmetic is trusted with, or functions have more than 16 tables or 64 parameters; the message has the number and its limits.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        CudaDevice device, in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null,
        OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        return Explanation(device, ShapeProblem.Sequences<TQuery, TKeyValue>(shape, queryLengths, keyLengths, blockSize, options, operands), options, operands);
    }

    /// <summary>Writes and loads the kernels that a dense call of this shape would run, so that the first such call does not wait for that. What is loaded already costs nothing.</summary>
    /// <exception cref="CudaException">The driver refuses a kernel; the message has its log.</exception>
    /// <inheritdoc cref="Explain{TQuery, TKeyValue}(CudaDevice, in AttentionShape, AttentionOptions, OperandKinds)"/>
    public static void Prepare<TQuery, TKeyValue>(CudaDevice device, in AttentionShape shape, AttentionOptions? options = null, OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        Prepare(device, ShapeProblem.Dense<TQuery, TKeyValue>(shape, options, operands), operands);
    }

    /// <summary>Writes and loads the kernels that a packed or paged call would run, so that the first such call does not wait for that. What is loaded already costs nothing.</summary>
    /// <exception cref="CudaException">The driver refuses a kernel; the message has its log.</exception>
    /// <inheritdoc cref="Explain{TQuery, TKeyValue}(CudaDevice, in AttentionShape, ReadOnlySpan{int}, ReadOnlySpan{int}, int?, AttentionOptions, OperandKinds)"/>
    public static void Prepare<TQuery, TKeyValue>(
        CudaDevice device, in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null,
        OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        Prepare(device, ShapeProblem.Sequences<TQuery, TKeyValue>(shape, queryLengths, keyLengths, blockSize, options, operands), operands);
    }

    private static void Prepare(CudaDevice device, AttentionProblem problem, OperandKinds operands)
    {
        bool isAligned = CudaPlan.HasAlignedStrides(problem);
        device.Prepare(CudaPlan.Of(problem, device.Description, isAligned, form: device.PrefillForm, items: device.DecodeItems, copies: device.DecodeCopies).Functions.AsSpan());
        if (isAligned && operands.HasFlag(OperandKinds.Unaligned)) device.Prepare(CudaPlan.Of(problem, device.Description, isAligned: false).Functions.AsSpan());
    }

    private static AttentionExplanation Explanation(CudaDevice device, AttentionProblem problem, AttentionOptions options, OperandKinds operands)
    {
        bool isAligned = CudaPlan.HasAlignedStrides(problem) && !operands.HasFlag(OperandKinds.Unaligned);
        var plan = CudaPlan.Of(problem, device.Description, isAligned, form: device.PrefillForm, items: device.DecodeItems, copies: device.DecodeCopies);
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
                {DetailsOf(plan, options)}
                """,
        };
    }

    private static string DetailsOf(CudaPlan plan, AttentionOptions options)
    {
        var text = new StringBuilder(plan.Details).Append('\n');
        FunctionListing.AppendTo(text, options);
        return text.ToString().TrimEnd('\n');
    }
}
