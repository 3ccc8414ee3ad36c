using FusedAttention.Diagnostics;
using FusedAttention.Metal.Memory;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Calls;

/// <summary>One attention call on its way to the device: what the three forms share. The form itself is which method of <see cref="ProblemBuilder"/> fills <see cref="Problem"/>.</summary>
internal ref struct AttentionCall : IDisposable
{
    public const string Backend = "metal";

    private CallUses _uses;
    private CallMemory _memory;

    /// <summary>For <see cref="ProblemBuilder"/>: the tensors, at the addresses that processor and GPU share.</summary>
    public CallTensors Tensors;

    /// <summary>For <see cref="ProblemBuilder"/>: it reads lengths and offsets of these, and nothing else.</summary>
    public AttentionOperands Operands;

    public AttentionProblem Problem { get; private init; }

    /// <summary>Takes the tensors of a call and holds them until it is disposed.</summary>
    public static unsafe AttentionCall Of<TQuery, TKeyValue>(
        MetalTensor<TQuery> query, MetalTensor<TKeyValue> key, string keyName, MetalTensor<TKeyValue> value, string valueName, MetalTensor<TQuery> output, scoped in MetalOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(key, keyName);
        ArgumentNullException.ThrowIfNull(value, valueName);
        ArgumentNullException.ThrowIfNull(output);
        var uses = new CallUses(query.Device);
        try
        {
            var memory = new CallMemory(
                uses.Add(query, nameof(query), nameof(query)), uses.Add(key, keyName, keyName), uses.Add(value, valueName, valueName),
                uses.Add(output, nameof(output), nameof(output), isWritten: true))
            {
                Mask = operands.BooleanMask is { } mask ? uses.Add(mask, nameof(operands.BooleanMask), nameof(operands)) : null,
                Bias = operands.Bias is { } bias ? uses.Add(bias, nameof(operands.Bias), nameof(operands)) : null,
                LogSumExp = operands.LogSumExp is { } logSumExp ? uses.Add(logSumExp, nameof(operands.LogSumExp), nameof(operands), isWritten: true) : null,
            };
            var tensors = new CallTensors
            {
                QueryType = ElementTypes.Of<TQuery>(nameof(query)),
                KeyValueType = ElementTypes.Of<TKeyValue>(keyName),
                Query = (byte*)query.First,
                Key = (byte*)key.First,
                Value = (byte*)value.First,
                Output = (byte*)output.First,
                QueryLayout = LayoutOf(query),
                KeyLayout = LayoutOf(key),
                ValueLayout = LayoutOf(value),
                OutputLayout = LayoutOf(output),
                KeyName = keyName,
                ValueName = valueName,
            };
            ArgumentChecks.TypePair(tensors.QueryType, tensors.KeyValueType, keyName);
            if (operands.BooleanMask is not null)
            {
                tensors.Mask = (byte*)operands.BooleanMask.First;
                tensors.MaskLayout = LayoutOf(operands.BooleanMask);
            }

            if (operands.Bias is not null)
            {
                tensors.Bias = operands.Bias.Memory.Pointer + operands.Bias.Offset;
                tensors.BiasLayout = LayoutOf(operands.Bias);
                tensors.BiasType = BiasTypeOf(operands.Bias, nameof(operands));
            }

            if (operands.LogSumExp is not null)
            {
                tensors.LogSumExp = operands.LogSumExp.First;
                tensors.LogSumExpLayout = LayoutOf(operands.LogSumExp);
            }

            return new AttentionCall
            {
                _uses = uses,
                _memory = memory,
                Tensors = tensors,
                Operands = new AttentionOperands { KeyLengths = operands.KeyLengths, QueryOffsets = operands.QueryOffsets },
                Problem = new AttentionProblem(),
            };
        }
        catch
        {
            uses.Dispose();
            throw;
        }
    }

    /// <summary>Plans <see cref="Problem"/> and queues the work.</summary>
    public readonly void Queue(AttentionOptions options)
    {
        CheckOptions(options);
        options.CancellationToken.ThrowIfCancellationRequested();
        MetalDevice device = _uses.Device;
        MetalPlan plan = MetalPlan.Of(Problem, device.Description);
        if (plan.WorkItems == 0) return;
        CallDescription description = AttentionTelemetry.IsEnabled ? CallDescription.Of(Problem, Backend, plan.Kernel, FloatingPointOperations(Problem)) : default;
        CallTimer timer = AttentionTelemetry.Start(description);
        try
        {
            using TransientPool.Rental transient = device.Transient.Rent();
            device.Submit(plan.Bind(Problem, _memory, transient), transient, _uses.All);
            AttentionTelemetry.Stop(timer, description);
        }
        catch (Exception exception)
        {
            AttentionTelemetry.Stop(timer, description, exception);
            throw;
        }
    }

    public void Dispose() => _uses.Dispose();

    /// <summary>Options that speak of the CPU's kernels. Those that cannot change what is computed are passed over, the others are refused.</summary>
    /// <exception cref="ArgumentException">A variant of the CPU kernels is asked for.</exception>
    public static void CheckOptions(AttentionOptions options)
    {
        if (options.InstructionSet == CpuInstructionSet.Auto) return;
        throw new ArgumentException($"InstructionSet is {options.InstructionSet}, a variant of the CPU kernels; a Metal device takes Auto only.", nameof(options));
    }

    public static double FloatingPointOperations(AttentionProblem problem) => 2 * problem.AllowedPairs() * problem.QueryHeads * (problem.KeyDim + problem.ValueDim);

    public static TensorLayout LayoutOf(MetalTensor tensor) => TensorLayout.Of(tensor.Lengths, tensor.Strides);

    private static AttentionElementType BiasTypeOf(MetalTensor bias, string argument) => bias switch
    {
        MetalTensor<float> => AttentionElementType.Float32,
        MetalTensor<Half> => AttentionElementType.Float16,
        MetalTensor<BFloat16> => AttentionElementType.BFloat16,
        _ => throw new ArgumentException($"Bias has elements of type {bias.ElementType.Name}; expected float, Half or BFloat16.", argument),
    };
}
