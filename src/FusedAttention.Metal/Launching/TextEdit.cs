using System.Globalization;
using System.Text;

namespace FusedAttention.Metal.Launching;

/// <summary>Lines that come into a kernel file for some calls.</summary>
/// <param name="File">The file.</param>
/// <param name="Anchor">The one place of it where they come: whole lines, or one line without its end.</param>
/// <param name="Lines">What comes, each line with its end.</param>
/// <param name="Replaces">Whether they come in place of the anchor rather than behind it.</param>
internal sealed record TextEdit(string File, string Anchor, string Lines, bool Replaces = false)
{
    /// <summary>A file with its edits; behind each is a mark that makes the compiler's messages count the file's own lines.</summary>
    /// <exception cref="InvalidOperationException">An anchor is not there, or more than once.</exception>
    public static string Apply(string file, string text, IEnumerable<TextEdit> edits)
    {
        var result = new StringBuilder();
        int from = 0;
        foreach ((int at, TextEdit edit) in edits.Where(edit => string.Equals(edit.File, file, StringComparison.Ordinal)).Select(edit => (edit.PlaceIn(text), edit)).OrderBy(static place => place.Item1))
        {
            int end = at + edit.Anchor.Length + 1;
            result.Append(text.AsSpan(from, (edit.Replaces ? at : end) - from)).Append(edit.Lines);
            result.Append(CultureInfo.InvariantCulture, $"#line {text.AsSpan(0, end).Count('\n') + 1} \"{file}\"\n");
            from = end;
        }

        return result.Append(text.AsSpan(from)).ToString();
    }

    /// <summary>Where the anchor's first line begins.</summary>
    private int PlaceIn(string text)
    {
        string lines = $"\n{Anchor}\n";
        int at = text.IndexOf(lines, StringComparison.Ordinal);
        if (at < 0 || text.IndexOf(lines, at + 1, StringComparison.Ordinal) >= 0) throw new InvalidOperationException($"{File} does not have once: \"{Anchor.Trim()}\".");
        return at + 1;
    }
}
