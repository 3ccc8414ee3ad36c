using FusedAttention.Devices;
using FusedAttention.Diagnostics;
using FusedAttention.Metal.Memory;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Calls;

/// <summary>
/// One attention call on its way to the device: what the three forms share. The form itself is which method of <see cref="ProblemBuilder"/> fills <see cref="Problem"/>. Reused between calls, with the
/// problem, the plan and the launches, so that a call allocates nothing in steady state.
/// </summary>
internal sealed class AttentionCall : IDisposable
{
    public const string Backend = "metal";

    private static readonly CallPool<AttentionCall> Pool = new(static () => new AttentionCall());

    private readonly MetalPlan _plan = new();
    private readonly DeviceMemory[] _functionTables = new DeviceMemory[FunctionCaptures.MostTables];
    private CallUses _uses;
    private CallMemory _memory;
    private CallTensors _tensors;

    private AttentionCall()
    {
    }

    /// <summary>For <see cref="ProblemBuilder"/>: the tensors, at the addresses that processor and GPU share.</summary>
    public ref readonly CallTensors Tensors => ref _tensors;

    public AttentionProblem Problem { get; } = new();

    /// <summary>Takes the tensors of a call and holds them until it is disposed, once.</summary>
    public static AttentionCall Of<TQuery, TKeyValue>(
        MetalTensor<TQuery> query, MetalTensor<TKeyValue> key, string keyName, MetalTensor<TKeyValue> value, string valueName, MetalTensor<TQuery> output, scoped in MetalOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(key, keyName);
        ArgumentNullException.ThrowIfNull(value, valueName);
        ArgumentNullException.ThrowIfNull(output);
        AttentionCall call = Pool.Rent();
        try
        {
            call.Take(query, key, keyName, value, valueName, output, operands);
            return call;
        }
        catch
        {
            call.Dispose();
            throw;
        }
    }

    /// <summary>The operands that <see cref="ProblemBuilder"/> reads beside the tensors.</summary>
    public static AttentionOperands LengthsOf(scoped in MetalOperands operands) => new() { KeyLengths = operands.KeyLengths, QueryOffsets = operands.QueryOffsets };

    public static TensorLayout LayoutOf(MetalTensor tensor) => TensorLayout.Of(tensor.Lengths, tensor.Strides);

    /// <summary>Plans <see cref="Problem"/> and queues the work.</summary>
    public void Queue(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        MetalDevice device = _uses.Device;
        _plan.Build(Problem, device.Description, budget: device.SubmissionBudget);
        if (_plan.WorkItems == 0) return;
        CallDescription description = AttentionTelemetry.IsEnabled ? CallDescription.Of(Problem, Backend, _plan.Kernel, 2 * Problem.MultiplyAdds()) : default;
        CallTimer timer = AttentionTelemetry.Start(description);
        try
        {
            Span<DeviceMemory> functionTables = _functionTables.AsSpan(0, FunctionCaptures.TablesOf(Problem));
            for (int i = 0; i < functionTables.Length; i++) functionTables[i] = _uses.AddTable(device.FunctionTables.Of(FunctionCaptures.TableAt(Problem, i)));
            using TransientLease transient = device.RentTransient();
            device.Submit(_plan.Bind(Problem, _memory, transient.Memory, functionTables), transient.Memory, _uses.All);
            AttentionTelemetry.Stop(timer, description);
        }
        catch (Exception exception)
        {
            AttentionTelemetry.Stop(timer, description, exception);
            throw;
        }
    }

    public void Dispose()
    {
        // Nothing of the call may be kept alive by a call that waits for its next use.
        _plan.Release();
        _uses.Dispose();
        _memory = default;
        _tensors = default;
        Array.Clear(_functionTables);
        (Problem.ScoreFunction, Problem.MaskFunction) = (null, null);
        Pool.Return(this);
    }

    private unsafe void Take<TQuery, TKeyValue>(
        MetalTensor<TQuery> query, MetalTensor<TKeyValue> key, string keyName, MetalTensor<TKeyValue> value, string valueName, MetalTensor<TQuery> output, scoped in MetalOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        _uses = new(query.Device);
        _memory = new(
            _uses.Add(query, nameof(query), nameof(query)), _uses.Add(key, keyName, keyName), _uses.Add(value, valueName, valueName),
            _uses.Add(output, nameof(output), nameof(output), isWritten: true),
            operands.BooleanMask is { } mask ? _uses.Add(mask, nameof(operands.BooleanMask), nameof(operands)) : null,
            operands.Bias is { } bias ? _uses.Add(bias, nameof(operands.Bias), nameof(operands)) : null,
            operands.LogSumExp is { } logSumExp ? _uses.Add(logSumExp, nameof(operands.LogSumExp), nameof(operands), isWritten: true) : null,
            operands.KeyScale is { } keyScale ? _uses.Add(keyScale, nameof(operands.KeyScale), nameof(operands)) : null,
            operands.ValueScale is { } valueScale ? _uses.Add(valueScale, nameof(operands.ValueScale), nameof(operands)) : null);
        _tensors = CallTensors.Of(
            TensorArgument.Of(query.First, LayoutOf(query), nameof(query)), TensorArgument.OfKeyValue(key.First, LayoutOf(key), keyName),
            TensorArgument.OfKeyValue(value.First, LayoutOf(value), valueName), TensorArgument.Of(output.First, LayoutOf(output), nameof(output)));
        if (operands.BooleanMask is not null) _tensors.Mask = TensorArgument.OfMask(operands.BooleanMask.First, LayoutOf(operands.BooleanMask));
        if (operands.Bias is not null)
        {
            _tensors.Bias = TensorArgument.Of(
                operands.Bias.Memory.Pointer + operands.Bias.Offset, LayoutOf(operands.Bias), BiasTypeOf(operands.Bias, nameof(operands)), nameof(operands.Bias));
        }

        if (operands.KeyScale is not null) _tensors.KeyScale = TensorArgument.Of(operands.KeyScale.First, LayoutOf(operands.KeyScale), nameof(operands.KeyScale));
        if (operands.ValueScale is not null) _tensors.ValueScale = TensorArgument.Of(operands.ValueScale.First, LayoutOf(operands.ValueScale), nameof(operands.ValueScale));
        if (operands.LogSumExp is not null) _tensors.LogSumExp = TensorArgument.Of(operands.LogSumExp.First, LayoutOf(operands.LogSumExp), nameof(operands.LogSumExp));
    }

    private static AttentionElementType BiasTypeOf(MetalTensor bias, string argument) => bias switch
    {
        MetalTensor<float> => AttentionElementType.Float32,
        MetalTensor<Half> => AttentionElementType.Float16,
        MetalTensor<BFloat16> => AttentionElementType.BFloat16,
        _ => throw new ArgumentException($"Bias has elements of type {bias.ElementType.Name}; expected float, Half or BFloat16.", argument),
    };
}
