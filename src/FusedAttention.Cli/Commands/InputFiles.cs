using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>
/// The files of one command. A tensor is named by itself, in the first file that has it; as FILE:NAME, in another file; or as FILE when that file holds
/// just one.
/// </summary>
internal sealed class InputFiles : IDisposable
{
    private readonly Dictionary<string, TensorFile> _files = new(StringComparer.Ordinal);

    public TensorFile Open(string path)
    {
        if (_files.TryGetValue(path, out TensorFile? file)) return file;
        if (!File.Exists(path)) throw new UsageException(Directory.Exists(path) ? $"{path} is a folder, not a file." : $"There is no file {path}.");
        file = TensorFile.Open(path);
        _files.Add(path, file);
        return file;
    }

    /// <summary>Whether a path is that of a file that is open.</summary>
    private bool IsOpen(string path) => _files.Keys.Any(open => string.Equals(Path.GetFullPath(open), Path.GetFullPath(path), StringComparison.Ordinal));

    /// <summary>Refuses a file to write to that is an input, or in a folder that is not there, before the work is done.</summary>
    /// <param name="what">The option, or argument, and the path.</param>
    /// <param name="path">The path.</param>
    public void CheckOutput(string what, string path)
    {
        if (IsOpen(path)) throw new UsageException($"{what} is an input: give another file.");
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        if (!Directory.Exists(folder)) throw new UsageException($"{what}: there is no folder {folder}.");
    }

    /// <summary>Loads a tensor of this very name from the first file that has one; null where none has.</summary>
    public LoadedTensor? TryRead(string name) => _files.Values.FirstOrDefault(file => file.Contains(name))?.Read(name);

    /// <summary>Loads the only tensor of a file.</summary>
    public LoadedTensor ReadOnlyTensor(string path)
    {
        TensorFile file = Open(path);
        if (file.Names.Count != 1) throw new UsageException($"{path} {Names.Of(file.Names)}: name one as {path}:NAME.");
        return file.Read(file.Names[0]);
    }

    /// <summary>Loads the tensor that an option names.</summary>
    public LoadedTensor Read(string option, string reference)
    {
        foreach (TensorFile file in _files.Values)
        {
            if (file.Find(reference) is string name) return file.Read(name);
        }

        if (File.Exists(reference)) return ReadOnlyTensor(reference);
        // From the end, and not at the second character: a drive letter is no file name.
        int colon = reference.LastIndexOf(':');
        if (colon > 1 && File.Exists(reference[..colon]))
        {
            TensorFile file = Open(reference[..colon]);
            return file.Read(file.Find(reference[(colon + 1)..]) ?? reference[(colon + 1)..]);
        }

        IEnumerable<string> known = _files.Values.SelectMany(f => f.Names);
        throw new UsageException($"{option}: there is no tensor or file '{reference}'; the input {Names.Of(known)}.");
    }

    public void Dispose()
    {
        foreach (TensorFile file in _files.Values) file.Dispose();
    }
}
