using System.CommandLine;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>The options that say what to compute: mask by position, alignment, ALiBi, soft cap, scale and sinks.</summary>
internal sealed class SemanticsOptions
{
    private readonly Option<bool> _causal = new("--causal") { Description = "A query sees the keys up to its own position.", Arity = ArgumentArity.Zero };

    private readonly Option<string?> _window = new("--window")
    {
        Description = "A query sees LEFT keys before and RIGHT keys after its own position; * for all.",
        HelpName = "LEFT,RIGHT",
    };

    private readonly Option<string> _align = new("--align")
    {
        Description = "Where the queries lie on the key axis: bottom-right (the last query at the last key) or top-left.",
        HelpName = "CORNER",
        DefaultValueFactory = _ => "bottom-right",
    };

    private readonly Option<long?> _queryOffset = new Option<long?>("--query-offset") { Description = "Position of the first query on the key axis, instead of --align.", HelpName = "N" }.WholeNumber();
    private readonly Option<bool> _alibi = new("--alibi") { Description = "ALiBi with the paper's slopes.", Arity = ArgumentArity.Zero };

    private readonly Option<string?> _alibiSlopes = new("--alibi-slopes")
    {
        Description = "ALiBi with these slopes, one per query head: a tensor of F32, or numbers separated by commas.",
        HelpName = "NAME|LIST",
    };

    private readonly Option<float?> _softCap = new Option<float?>("--soft-cap") { Description = "Squash scores to C tanh(s / C).", HelpName = "C" }.NotNegative();
    private readonly Option<float?> _scale = new Option<float?>("--scale") { Description = "Factor on the dot products; 1/sqrt(dim) if not given.", HelpName = "S" }.Positive();

    private readonly Option<string?> _sinks = new("--sinks")
    {
        Description = "Sink logits, one per query head: a tensor of F32, or numbers separated by commas.",
        HelpName = "NAME|LIST",
    };

    private Option[] All => [_causal, _window, _align, _queryOffset, _alibi, _alibiSlopes, _softCap, _scale, _sinks];

    public void AddTo(Command command)
    {
        foreach (Option option in All) command.Add(option);
    }

    /// <summary>Whether the command line has any of them.</summary>
    public bool IsGiven(ParseResult parsed) => All.Any(option => parsed.GetResult(option) is { Implicit: false });

    /// <summary>What the command line asks for, row-invariant if it is to run so.</summary>
    public AttentionOptions Read(ParseResult parsed, RunOptions run, InputFiles files, int heads)
    {
        AttentionMask mask = parsed.GetValue(_window) is string window ? OptionText.Window(_window.Name, window) : AttentionMask.Full;
        if (parsed.GetValue(_alibi) && parsed.GetValue(_alibiSlopes) is not null) throw new UsageException("--alibi has the paper's slopes and --alibi-slopes has its own: give one.");
        var options = new AttentionOptions
        {
            RowInvariant = run.RowInvariant,
            Mask = parsed.GetValue(_causal) ? mask.AndCausal() : mask,
            Alignment = OptionText.Alignment(_align.Name, parsed.GetValue(_align)!),
            QueryOffset = parsed.GetValue(_queryOffset),
            SoftCap = parsed.GetValue(_softCap) ?? 0,
            Scale = parsed.GetValue(_scale),
        };
        if (parsed.GetValue(_alibi)) options = options with { AlibiSlopes = AlibiSlopes.ForHeads(heads) };
        if (parsed.GetValue(_alibiSlopes) is string slopes) options = options with { AlibiSlopes = [.. Numbers(files, _alibiSlopes.Name, slopes)] };
        if (parsed.GetValue(_sinks) is string sinks) options = options with { SinkLogits = [.. Numbers(files, _sinks.Name, sinks)] };
        return options;
    }

    /// <summary>The options in a few words.</summary>
    public static string Describe(CallInputs call)
    {
        AttentionOptions options = call.Options;
        var words = new List<string> { options.Mask.ToString() };
        if (options.QueryOffset is long offset) words.Add($"first query at {offset}");
        else if (options.Alignment == AttentionAlignment.TopLeft) words.Add("top-left");
        if (!options.AlibiSlopes.IsDefaultOrEmpty) words.Add("ALiBi");
        if (options.SoftCap > 0) words.Add($"soft cap {options.SoftCap}");
        if (!options.SinkLogits.IsDefaultOrEmpty) words.Add("sinks");
        if (call.Mask is not null) words.Add("mask");
        if (call.Bias is not null) words.Add("bias");
        if (call.KeyLengths is not null) words.Add("key lengths");
        words.Add($"scale {options.Scale ?? (float)(1 / Math.Sqrt(call.KeyDim))}");
        if (options.RowInvariant) words.Add("row-invariant");
        return string.Join(", ", words);
    }

    private static float[] Numbers(InputFiles files, string option, string text)
    {
        if (OptionText.TryNumbers(text) is float[] numbers) return numbers;
        LoadedTensor tensor = files.Read(option, text);
        return tensor.ElementType.IsFloatingPoint()
            ? tensor.ConvertTo(TensorElementType.Float32).Elements<float>().ToArray()
            : throw new UsageException($"{option}: {tensor} does not hold floating-point numbers.");
    }
}
