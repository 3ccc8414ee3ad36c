using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Devices;
using FusedAttention.Problems;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Cuda.Planning;

/// <summary>What a call's functions have captured, on its way into the kernels' parameter: <see cref="FunctionBlock"/>.</summary>
internal static class FunctionBinding
{
    /// <summary>Refuses functions that have captured more than a launch takes along.</summary>
    /// <exception cref="NotSupportedException">Too many tables or parameters.</exception>
    public static void Require(AttentionProblem problem)
    {
        int tables = TablesOf(problem), parameters = (problem.ScoreFunction?.Graph.Parameters.Count ?? 0) + (problem.MaskFunction?.Graph.Parameters.Count ?? 0);
        if (tables <= FunctionBlock.MostTables && parameters <= FunctionBlock.MostParameters) return;
        string names = string.Join(" and ", ((string?[])[problem.ScoreFunction?.ToString(), problem.MaskFunction?.ToString()]).OfType<string>());
        throw new NotSupportedException(
            $"The CUDA kernels take functions with up to {FunctionBlock.MostTables} tables and {FunctionBlock.MostParameters} parameters in a call; the call's have {tables} and {parameters}: {names}.");
    }

    /// <summary>How many tables the call's functions look up.</summary>
    public static int TablesOf(AttentionProblem problem) => (problem.ScoreFunction?.Graph.Tables.Count ?? 0) + (problem.MaskFunction?.Graph.Tables.Count ?? 0);

    /// <summary>One of them, in the order of the block.</summary>
    public static ScoreTable TableAt(AttentionProblem problem, int index)
    {
        int ofScore = problem.ScoreFunction?.Graph.Tables.Count ?? 0;
        return index < ofScore ? problem.ScoreFunction!.Graph.Tables[index] : problem.MaskFunction!.Graph.Tables[index - ofScore];
    }

    /// <summary>Writes the block.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="traits">What its kernels are specialised for.</param>
    /// <param name="tables">Where its tables lie on the device.</param>
    /// <param name="parameters">The kernels' parameter.</param>
    public static void Write(AttentionProblem problem, in KernelTraits traits, ReadOnlySpan<ulong> tables, Span<byte> parameters)
    {
        Span<byte> block = parameters.Slice(FunctionBlock.Offset, FunctionBlock.BytesOf(traits));
        Span<FunctionTable> entries = MemoryMarshal.Cast<byte, FunctionTable>(block)[..tables.Length];
        for (int i = 0; i < entries.Length; i++)
        {
            ScoreTable table = TableAt(problem, i);
            entries[i] = new() { Address = tables[i], Rows = table.Rows, Columns = table.Columns };
        }

        Span<float> numbers = MemoryMarshal.Cast<byte, float>(block[FunctionBlock.ParametersBehind(traits)..]);
        int written = WriteParameters(problem.ScoreFunction?.Graph, numbers);
        WriteParameters(problem.MaskFunction?.Graph, numbers[written..]);
    }

    private static int WriteParameters(ScoreGraph? graph, Span<float> numbers)
    {
        if (graph is null) return 0;
        for (int i = 0; i < graph.Parameters.Count; i++) numbers[i] = graph.Parameters[i].Value;
        return graph.Parameters.Count;
    }
}
