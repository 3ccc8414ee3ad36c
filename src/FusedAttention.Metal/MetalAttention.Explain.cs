using FusedAttention.Metal.Calls;
using FusedAttention.Metal.Planning;
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
    /// <param name="operands">The optional tensors that the call will have.</param>
    /// <exception cref="ArgumentException">The shape, the types or the options cannot be computed on.</exception>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        MetalDevice device, in AttentionShape shape, AttentionOptions? options = null, MetalOperandKinds operands = MetalOperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        AttentionProblem problem = ShapeProblem.Dense<TQuery, TKeyValue>(shape, options);
        return Explanation(device, problem, PlanOf(device, problem, options, operands), options);
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
    /// <param name="operands">The optional tensors that the call will have.</param>
    /// <exception cref="ArgumentException">The shape, the lengths, the types or the options cannot be computed on.</exception>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        MetalDevice device, in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null,
        MetalOperandKinds operands = MetalOperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        AttentionProblem problem = ShapeProblem.Sequences<TQuery, TKeyValue>(shape, queryLengths, keyLengths, blockSize, options);
        return Explanation(device, problem, PlanOf(device, problem, options, operands), options);
    }

    /// <summary>Compiles what a dense call of this shape would run, so that the first such call does not wait for the compiler. What is compiled already costs nothing.</summary>
    /// <exception cref="MetalException">A kernel does not compile; the message has the compiler's log.</exception>
    /// <inheritdoc cref="Explain{TQuery, TKeyValue}(MetalDevice, in AttentionShape, AttentionOptions, MetalOperandKinds)"/>
    public static void Prepare<TQuery, TKeyValue>(MetalDevice device, in AttentionShape shape, AttentionOptions? options = null, MetalOperandKinds operands = MetalOperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        device.Prepare(PlanOf(device, ShapeProblem.Dense<TQuery, TKeyValue>(shape, options), options, operands).Functions);
    }

    /// <summary>Compiles what a packed or paged call would run, so that the first such call does not wait for the compiler. What is compiled already costs nothing.</summary>
    /// <exception cref="MetalException">A kernel does not compile; the message has the compiler's log.</exception>
    /// <inheritdoc cref="Explain{TQuery, TKeyValue}(MetalDevice, in AttentionShape, ReadOnlySpan{int}, ReadOnlySpan{int}, int?, AttentionOptions, MetalOperandKinds)"/>
    public static void Prepare<TQuery, TKeyValue>(
        MetalDevice device, in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null,
        MetalOperandKinds operands = MetalOperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= AttentionOptions.Default;
        device.Prepare(PlanOf(device, ShapeProblem.Sequences<TQuery, TKeyValue>(shape, queryLengths, keyLengths, blockSize, options), options, operands).Functions);
    }

    private static MetalPlan PlanOf(MetalDevice device, AttentionProblem problem, AttentionOptions options, MetalOperandKinds operands)
    {
        AttentionCall.CheckOptions(options);
        SetOperands(problem, operands);
        return MetalPlan.Of(problem, device.Description);
    }

    /// <summary>Makes the planner see operands that are not there: it asks whether a pointer is null, and never follows one.</summary>
    private static void SetOperands(AttentionProblem problem, MetalOperandKinds operands)
    {
        var there = (byte*)16;
        MetalOperandKinds bias = operands & (MetalOperandKinds.BiasFloat32 | MetalOperandKinds.BiasFloat16 | MetalOperandKinds.BiasBFloat16);
        problem.BiasType = bias switch
        {
            MetalOperandKinds.None or MetalOperandKinds.BiasFloat32 => AttentionElementType.Float32,
            MetalOperandKinds.BiasFloat16 => AttentionElementType.Float16,
            MetalOperandKinds.BiasBFloat16 => AttentionElementType.BFloat16,
            _ => throw new ArgumentException($"operands is {operands}; a call has one bias at most.", nameof(operands)),
        };
        if (bias != MetalOperandKinds.None) problem.Bias = there;
        if (operands.HasFlag(MetalOperandKinds.BooleanMask)) problem.Mask = there;
        if (operands.HasFlag(MetalOperandKinds.LogSumExp)) problem.LogSumExp = (float*)there;
    }

    private static AttentionExplanation Explanation(MetalDevice device, AttentionProblem problem, MetalPlan plan, AttentionOptions options) => new()
    {
        Backend = AttentionCall.Backend,
        Device = device.ToString(),
        Kernel = plan.Kernel,
        Threads = 0,
        WorkItems = plan.WorkItems,
        FloatingPointOperations = AttentionCall.FloatingPointOperations(problem),
        KeyValueBytes = problem.KeyValueBytes(),
        ScratchBytes = plan.ScratchBytes,
        Details = $"""
            shape            {problem.SequenceCount} sequences, {problem.QueryHeads} query heads over {problem.KeyValueHeads}, dims {problem.KeyDim}/{problem.ValueDim}, {problem.QueryType} over {problem.KeyValueType}{(problem.BlockSize > 0 ? $", blocks of {problem.BlockSize}" : "")}
            mask             {options.Mask}, {options.Alignment}
            {plan.Details}
            """,
    };
}
