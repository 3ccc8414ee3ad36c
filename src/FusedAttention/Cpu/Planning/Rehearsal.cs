using FusedAttention.Problems;

namespace FusedAttention.Cpu.Planning;

/// <summary>How small a call can be that runs what a large one would.</summary>
internal static class Rehearsal
{
    /// <summary>How often it is called: the first compiles, and the second still finds places that are called for the second time (0.3 ms of a decode of 0.25 ms).</summary>
    public const int Calls = 3;

    /// <summary>Rows of a key/value head that are prefilled: some strips of every register tile, the last of them cut.</summary>
    private const int PrefillRows = 100;

    /// <summary>Keys that are prefilled: two tiles, the second cut.</summary>
    private const int PrefillKeys = PrefillTiles.Keys + 100;

    /// <summary>Keys that are decoded: 18 chunks, which are merged. Lists of more than 16 items are sorted by code of their own, and with three chunks the first call of eight still took three times as long as the second.</summary>
    private const int DecodeKeys = (17 * 512) + 100;

    /// <summary>Lengths of a sequence that is computed by the same kernel as another one: prefilled with two queries at least, since a single one is decoded.</summary>
    public static (int Queries, int Keys) Lengths(AttentionProblem problem, in SequenceProblem sequence) => CpuPlan.IsDecode(problem, sequence)
        ? (sequence.QueryLength, Math.Min(sequence.KeyLength, DecodeKeys))
        : (Math.Min(sequence.QueryLength, Math.Max(2, PrefillRows / problem.Group)), Math.Min(sequence.KeyLength, PrefillKeys));

    /// <summary>Lengths of as many sequences as a call has kinds: the decoded one and the prefilled one with the most keys.</summary>
    public static List<(int Queries, int Keys)> Sequences(AttentionProblem problem)
    {
        var kinds = new List<(int Queries, int Keys)>();
        foreach (bool isDecode in (ReadOnlySpan<bool>)[true, false])
        {
            int longest = -1;
            for (int s = 0; s < problem.SequenceCount; s++)
            {
                ref readonly SequenceProblem sequence = ref problem.Sequences[s];
                if (sequence.QueryLength > 0 && CpuPlan.IsDecode(problem, sequence) == isDecode && (longest < 0 || sequence.KeyLength > problem.Sequences[longest].KeyLength)) longest = s;
            }

            if (longest >= 0) kinds.Add(Lengths(problem, problem.Sequences[longest]));
        }

        return kinds;
    }
}
