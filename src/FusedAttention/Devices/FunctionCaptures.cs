using FusedAttention.Problems;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Devices;

/// <summary>What a call's functions have captured, on its way to a kernel: tables and parameters, those of the score function first. Nothing of it is in a kernel's text, so functions of one form share a kernel.</summary>
internal static class FunctionCaptures
{
    /// <summary>Tables that a call's functions look up between them: Metal has so many buffer slots beside the tensors, and with the parameters they are half a KB of CUDA's shortest parameter.</summary>
    public const int MostTables = 16;

    /// <summary>Parameters that they take.</summary>
    public const int MostParameters = 64;

    /// <summary>Refuses functions that have captured more than a launch takes along.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="backend">The backend, as users know it.</param>
    /// <exception cref="NotSupportedException">Too many tables or parameters.</exception>
    public static void Require(AttentionProblem problem, string backend)
    {
        int tables = TablesOf(problem), parameters = ParametersOf(problem);
        if (tables <= MostTables && parameters <= MostParameters) return;
        string names = string.Join(" and ", ((string?[])[problem.ScoreFunction?.ToString(), problem.MaskFunction?.ToString()]).OfType<string>());
        throw new NotSupportedException(
            $"The {backend} kernels take functions with up to {MostTables} tables and {MostParameters} parameters in a call; the call's have {tables} and {parameters}: {names}.");
    }

    /// <summary>How many tables the call's functions look up.</summary>
    public static int TablesOf(AttentionProblem problem) => (problem.ScoreFunction?.Graph.Tables.Count ?? 0) + (problem.MaskFunction?.Graph.Tables.Count ?? 0);

    /// <summary>How many parameters they take.</summary>
    public static int ParametersOf(AttentionProblem problem) => (problem.ScoreFunction?.Graph.Parameters.Count ?? 0) + (problem.MaskFunction?.Graph.Parameters.Count ?? 0);

    /// <summary>One of the tables.</summary>
    public static ScoreTable TableAt(AttentionProblem problem, int index)
    {
        int ofScore = problem.ScoreFunction?.Graph.Tables.Count ?? 0;
        return index < ofScore ? problem.ScoreFunction!.Graph.Tables[index] : problem.MaskFunction!.Graph.Tables[index - ofScore];
    }

    /// <summary>Writes the parameters.</summary>
    public static void WriteParameters(AttentionProblem problem, Span<float> numbers)
    {
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
