namespace FusedAttention.Checking.Formats;

/// <summary>A tensor file that is not what its format says: the message names the file, what is wrong and the numbers.</summary>
public sealed class TensorFileException : IOException
{
    public TensorFileException(string fileName, string problem)
        : base($"{fileName}: {problem}")
    {
        FileName = fileName;
    }

    public TensorFileException(string fileName, string problem, Exception inner)
        : base($"{fileName}: {problem}", inner)
    {
        FileName = fileName;
    }

    public string FileName { get; }
}
