using System.Numerics.Tensors;
using FusedAttention.Cpu;
using FusedAttention.Cpu.MachineCode;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>Calls by AVX-512's kernels with tile products for bfloat16: by the processor where it has tiles, or by the emulator.</summary>
internal sealed unsafe class TileCaller(CpuExecution execution, bool emulates) : ICallTarget
{
    private static readonly Lazy<TileKernelCache> Compiled = new(static () => TileKernelCache.Of(CodeHost.Current, PrefillTiles.Keys));

    /// <summary>Whether the processor has tiles and the process may use them.</summary>
    public static bool HasTiles => CodeHost.Current.MayUseTiles;

    private readonly CpuKernels _kernels = EmulatedTiles.With(emulates ? EmulatedTiles.Products : Compiled.Value);

    public void Dense<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        fixed (TQuery* q = query, o = output)
        fixed (TKeyValue* k = key, v = value)
        fixed (bool* mask = operands.BooleanMask)
        fixed (byte* bias = operands.Bias)
        fixed (float* logSumExp = operands.LogSumExp)
        {
            CpuCall call = CpuCall.Rent();
            ProblemBuilder.Dense(call.Problem, Tensors(q, TensorLayout.Of(query), k, TensorLayout.Of(key), v, TensorLayout.Of(value), o, TensorLayout.Of(output)).With(mask, bias, logSumExp, operands), options, operands);
            Run(call);
        }
    }

    public void Packed<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] cumulativeKeys, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        fixed (TQuery* q = query, o = output)
        fixed (TKeyValue* k = key, v = value)
        fixed (bool* mask = operands.BooleanMask)
        fixed (byte* bias = operands.Bias)
        fixed (float* logSumExp = operands.LogSumExp)
        {
            CpuCall call = CpuCall.Rent();
            ProblemBuilder.Packed(
                call.Problem, Tensors(q, TensorLayout.Of(query), k, TensorLayout.Of(key), v, TensorLayout.Of(value), o, TensorLayout.Of(output)).With(mask, bias, logSumExp, operands),
                cumulativeQueries, cumulativeKeys, options, operands);
            Run(call);
        }
    }

    public void Paged<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        fixed (TQuery* q = query, o = output)
        fixed (TKeyValue* k = keyCache, v = valueCache)
        fixed (bool* mask = operands.BooleanMask)
        fixed (byte* bias = operands.Bias)
        fixed (float* logSumExp = operands.LogSumExp)
        fixed (int* tables = blockTables)
        {
            CpuCall call = CpuCall.Rent();
            ProblemBuilder.Paged(
                call.Problem, Tensors(q, TensorLayout.Of(query), k, TensorLayout.Of(keyCache), v, TensorLayout.Of(valueCache), o, TensorLayout.Of(output)).With(mask, bias, logSumExp, operands),
                new PagedSequences(cumulativeQueries, contextLengths, blockTables, maxBlocksPerSequence), tables, options, operands);
            Run(call);
        }
    }

    private static CallTensors Tensors<TQuery, TKeyValue>(TQuery* query, TensorLayout queryLayout, TKeyValue* key, TensorLayout keyLayout, TKeyValue* value, TensorLayout valueLayout, TQuery* output, TensorLayout outputLayout)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => CallTensors.Of(
            TensorArgument.Of(query, queryLayout, "query"), TensorArgument.Of(key, keyLayout, "key"), TensorArgument.Of(value, valueLayout, "value"), TensorArgument.Of(output, outputLayout, "output"));

    private void Run(CpuCall call)
    {
        call.Run((execution, default), _kernels);
        call.Return();
    }
}
