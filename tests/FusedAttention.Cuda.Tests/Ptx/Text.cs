using System.Globalization;
using System.Text.RegularExpressions;
using FusedAttention.Cuda.Ptx;
using Xunit;

namespace FusedAttention.Cuda.Tests.Ptx;

/// <summary>Kernels of a few instructions, and their text.</summary>
internal static partial class Text
{
    public static PtxKernel Kernel(PtxTarget target = PtxTarget.Sm80) => new("test", target, threads: 64, blocks: 3, parameterBytes: 48);

    /// <summary>The instructions, labels and comments, without declarations.</summary>
    public static string[] Body(PtxKernel kernel)
    {
        string[] lines = kernel.ToString().TrimEnd('\n').Split('\n');
        int begin = Array.IndexOf(lines, "{");
        Assert.True(begin > 0 && lines[^1] is "}", kernel.ToString());
        return [.. lines[(begin + 1)..^1].Where(static line => !line.TrimStart().StartsWith(".reg", StringComparison.Ordinal)).Select(static line => line.Trim())];
    }

    /// <summary>What an action writes, its lines without semicolons.</summary>
    public static string[] Of(Action<PtxKernel> write)
    {
        PtxKernel kernel = Kernel();
        write(kernel);
        AssertSound(kernel);
        return [.. Body(kernel).Select(static line => line.TrimEnd(';'))];
    }

    /// <summary>What holds of any text: a register is declared once, with room for its number; a label is placed once, and each one that is branched to is there.</summary>
    public static void AssertSound(PtxKernel kernel)
    {
        string text = kernel.ToString();
        var declared = new HashSet<string>(StringComparer.Ordinal);
        foreach (Match line in Declarations().Matches(text))
        {
            foreach (string register in line.Groups["registers"].Value.Split(", "))
            {
                Match many = Many().Match(register);
                string[] names = many.Success
                    ? [.. Enumerable.Range(0, int.Parse(many.Groups["count"].ValueSpan, CultureInfo.InvariantCulture)).Select(i => $"{many.Groups["name"].Value}{i}")]
                    : [register];
                foreach (string name in names)
                    if (!declared.Add(name)) Assert.Fail($"{name} is declared twice:\n{text}");
            }
        }

        string[] body = Body(kernel);
        string[] labels = [.. body.Where(static line => line.EndsWith(':')).Select(static line => line[..^1])];
        HashSet<string> places = [.. labels];
        if (places.Count < labels.Length) Assert.Fail($"A label is placed twice:\n{text}");
        foreach (string line in body.Where(static line => !line.EndsWith(':') && !line.StartsWith("//", StringComparison.Ordinal)))
        {
            foreach (Match register in RegistersOf().Matches(line))
                if (!register.Value.Contains('.', StringComparison.Ordinal) && !declared.Contains(register.Value)) Assert.Fail($"{register.Value} of \"{line}\" is not declared:\n{text}");
            Match branch = Branches().Match(line);
            if (branch.Success && !places.Contains(branch.Groups["label"].Value)) Assert.Fail($"\"{line}\" goes nowhere:\n{text}");
        }
    }

    [GeneratedRegex(@"^ +\.reg \.\w+ (?<registers>[^;]+);$", RegexOptions.ExplicitCapture | RegexOptions.Multiline | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Declarations();

    [GeneratedRegex(@"^(?<name>%\w+)<(?<count>\d+)>$", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Many();

    [GeneratedRegex(@"%\w+(\.\w+)?", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex RegistersOf();

    [GeneratedRegex(@"\bbra(\.uni)? (?<label>\S+?);?$", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Branches();
}
