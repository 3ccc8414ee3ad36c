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
                if (!many.Success) Assert.True(declared.Add(register), $"{register} is declared twice:\n{text}");
                for (int i = 0; many.Success && i < int.Parse(many.Groups["count"].Value); i++)
                    Assert.True(declared.Add($"{many.Groups["name"].Value}{i}"), $"{many.Groups["name"].Value}{i} is declared twice:\n{text}");
            }
        }

        string[] body = Body(kernel);
        string[] labels = [.. body.Where(static line => line.EndsWith(':')).Select(static line => line[..^1])];
        Assert.Equal(labels.Distinct(StringComparer.Ordinal), labels);
        foreach (string line in body.Where(static line => !line.EndsWith(':') && !line.StartsWith("//", StringComparison.Ordinal)))
        {
            foreach (Match register in RegistersOf().Matches(line))
                if (!register.Value.Contains('.')) Assert.True(declared.Contains(register.Value), $"{register.Value} of \"{line}\" is not declared:\n{text}");
            Match branch = Branches().Match(line);
            if (branch.Success) Assert.Contains(branch.Groups["label"].Value, labels);
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
