using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Conformance;

/// <summary>What became of the files of a folder.</summary>
/// <param name="Outcomes">Cases that were run, and damaged files.</param>
/// <param name="Skipped">Files of another form, with the reason.</param>
public sealed record FolderOutcome(IReadOnlyList<CaseOutcome> Outcomes, IReadOnlyList<(string File, string Reason)> Skipped)
{
    public int Failed => Outcomes.Count(static outcome => !outcome.Passed);

    public int Passed => Outcomes.Count - Failed;
}

/// <summary>Every file of the reference form in a folder and below it.</summary>
public static class ReferenceFolder
{
    /// <summary>Where the cases of this project's repository lie in it.</summary>
    private static readonly string OfRepository = Path.Combine("tests", "data", "reference");

    public static string[] Files(string directory)
    {
        string[] files = Directory.GetFiles(directory, "*.safetensors", SearchOption.AllDirectories);
        Array.Sort(files, StringComparer.Ordinal);
        return files;
    }

    /// <summary>The cases of the repository that a folder lies in; null if it lies in none.</summary>
    public static string? FindAbove(string folder)
    {
        for (DirectoryInfo? at = new(folder); at is not null; at = at.Parent)
        {
            string path = Path.Combine(at.FullName, OfRepository);
            if (Directory.Exists(path)) return path;
        }

        return null;
    }

    /// <param name="directory">What names in the outcome are relative to.</param>
    /// <param name="files">Files in it.</param>
    /// <param name="run">How to run them.</param>
    /// <param name="backend">Where.</param>
    /// <param name="onFile">Called after each file.</param>
    public static FolderOutcome Run(string directory, string[] files, RunOptions run, Backend backend, Action onFile)
    {
        var outcomes = new List<CaseOutcome>();
        var skipped = new List<(string File, string Reason)>();
        foreach (string file in files)
        {
            run.CancellationToken.ThrowIfCancellationRequested();
            try
            {
                if (QuantizeCase.TryLoad(file) is QuantizeCase quantize)
                {
                    outcomes.Add(quantize.Run());
                }
                else
                {
                    ReferenceCase reference = ReferenceCase.Load(file);
                    if (reference.KeyValueType.IsEightBit() && !backend.TakesEightBits) skipped.Add((Path.GetRelativePath(directory, file), $"the {backend.Name} backend takes no keys and values of 8 bits"));
                    else outcomes.Add(ReferenceRunner.Run(reference, run, backend));
                }
            }
            catch (NotReferenceFormException e)
            {
                skipped.Add((Path.GetRelativePath(directory, file), e.Message));
            }
            catch (TensorFileException e)
            {
                outcomes.Add(new(Path.GetFileNameWithoutExtension(file), "damaged", null, null, null, e.Message));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                outcomes.Add(new(Path.GetFileNameWithoutExtension(file), "unreadable", null, null, null, e.Message));
            }

            onFile();
        }

        return new(outcomes, skipped);
    }
}
