namespace FusedAttention.Cli.Commands;

/// <summary>Text in columns.</summary>
internal static class TextWrap
{
    /// <summary>Paragraphs broken anew at a width; lines that are empty or begin with a space stay as they are.</summary>
    /// <param name="text">Lines.</param>
    /// <param name="width">Columns; a longer word stands alone in its line.</param>
    public static string Prose(string text, int width)
    {
        var lines = new List<string>();
        bool isOpen = false;
        foreach (string line in text.ReplaceLineEndings("\n").Split('\n'))
        {
            bool isProse = line.Length > 0 && line[0] != ' ';
            if (!isProse) lines.Add(line);
            foreach (string word in isProse ? line.Split(' ', StringSplitOptions.RemoveEmptyEntries) : [])
            {
                if (isOpen && lines[^1].Length + 1 + word.Length <= width) lines[^1] += " " + word;
                else lines.Add(word);
                isOpen = true;
            }

            isOpen = isProse;
        }

        return string.Join('\n', lines);
    }
}
