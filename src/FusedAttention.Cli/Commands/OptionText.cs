using System.Globalization;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>The values of options: from text, with an error that shows the right form, and back to text.</summary>
internal static class OptionText
{
    public static TensorElementType ElementType(string option, string text) => TryWide(text) ?? throw new UsageException($"{option} '{text}' is not fp32, fp16 or bf16.");

    /// <summary>The same, and those of 8 bits.</summary>
    public static TensorElementType KeyValueType(string option, string text) => TryWide(text) ?? TryEightBits(text) ?? throw new UsageException($"{option} '{text}' is not fp32, fp16, bf16, int8, fp8 or q8_0.");

    /// <summary>The 8-bit types alone.</summary>
    public static TensorElementType EightBits(string option, string text) => TryEightBits(text) ?? throw new UsageException($"{option} '{text}' is not int8, fp8 or q8_0.");

    /// <summary>LEFT,RIGHT, each a number of keys or * for all of them.</summary>
    public static AttentionMask Window(string option, string text)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries);
        if (parts.Length != 2) throw new UsageException($"{option} '{text}' is not LEFT,RIGHT: two numbers of keys, or * for all, as in 256,0.");
        return AttentionMask.Window(Reach(parts[0]), Reach(parts[1]));

        int? Reach(string part)
        {
            if (part is "*" or "-1") return null;
            return int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int keys)
                ? keys
                : throw new UsageException($"{option} '{text}': '{part}' is not a number of keys, 0 or more, or * for all.");
        }
    }

    /// <summary>full, causal, window:L,R or causal+window:L,R.</summary>
    public static AttentionMask PositionMask(string option, string text)
    {
        const string WindowPrefix = "window:", CausalWindowPrefix = "causal+window:";
        if (text.Equals("full", StringComparison.OrdinalIgnoreCase)) return AttentionMask.Full;
        if (text.Equals("causal", StringComparison.OrdinalIgnoreCase)) return AttentionMask.Causal;
        if (text.StartsWith(WindowPrefix, StringComparison.OrdinalIgnoreCase)) return Window(option, text[WindowPrefix.Length..]);
        if (text.StartsWith(CausalWindowPrefix, StringComparison.OrdinalIgnoreCase)) return Window(option, text[CausalWindowPrefix.Length..]).AndCausal();
        throw new UsageException($"{option} '{text}' is not full, causal, window:LEFT,RIGHT or causal+window:LEFT,RIGHT.");
    }

    /// <summary>The text that <see cref="PositionMask"/> reads.</summary>
    public static string Of(AttentionMask mask)
    {
        if (mask.WindowLeft is null && mask.WindowRight is null) return mask.IsCausal ? "causal" : "full";
        string window = $"window:{mask.WindowLeft?.ToString() ?? "*"},{mask.WindowRight?.ToString() ?? "*"}";
        return mask.IsCausal ? "causal+" + window : window;
    }

    public static AttentionAlignment Alignment(string option, string text) => text.ToLowerInvariant() switch
    {
        "bottom-right" => AttentionAlignment.BottomRight,
        "top-left" => AttentionAlignment.TopLeft,
        _ => throw new UsageException($"{option} '{text}' is not bottom-right or top-left."),
    };

    public static CpuInstructionSet InstructionSet(string option, string text) => NameOf<CpuInstructionSet>(option, text);

    public static CpuMachineCode MachineCode(string option, string text) => NameOf<CpuMachineCode>(option, text);

    /// <summary>A sentence of the library's, with the options of the command line in place of the properties that it names.</summary>
    public static string InToolWords(string sentence) => sentence
        .Replace($"{nameof(CpuExecution)}.{nameof(CpuExecution.InstructionSet)}", "--instruction-set", StringComparison.Ordinal)
        .Replace($"{nameof(CpuExecution)}.{nameof(CpuExecution.MachineCode)}", "--machine-code", StringComparison.Ordinal)
        .Replace(nameof(CpuExecution.MaxDegreeOfParallelism), "--threads", StringComparison.Ordinal);

    /// <summary>A list of numbers separated by commas; null when the text is something else, such as a name.</summary>
    public static float[]? TryNumbers(string text)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries);
        float[] numbers = new float[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (parts[i].Equals("-inf", StringComparison.OrdinalIgnoreCase)) numbers[i] = float.NegativeInfinity;
            else if (!float.TryParse(parts[i], NumberStyles.Float, CultureInfo.InvariantCulture, out numbers[i])) return null;
        }

        return numbers;
    }

    /// <summary>A list of whole numbers separated by commas; null when the text is something else, such as a name.</summary>
    public static int[]? TryWholeNumbers(string text)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries);
        int[] numbers = new int[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (!int.TryParse(parts[i], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out numbers[i])) return null;
        }

        return numbers;
    }

    /// <summary>An error or limit: three digits.</summary>
    public static string Error(double error) => error == 0 ? "0" : double.IsFinite(error) ? error.ToString("0.00e-0", CultureInfo.InvariantCulture) : "infinite";

    /// <summary>An error in units of its limit; null for none.</summary>
    public static string Ratio(double? ratio) => ratio is not double worst ? "-" : double.IsFinite(worst) ? worst.ToString("0.000", CultureInfo.InvariantCulture) : "infinite";

    private static TensorElementType? TryWide(string text) => text.ToLowerInvariant() switch
    {
        "fp32" or "f32" or "float32" => TensorElementType.Float32,
        "fp16" or "f16" or "float16" => TensorElementType.Float16,
        "bf16" or "bfloat16" => TensorElementType.BFloat16,
        _ => null,
    };

    private static TensorElementType? TryEightBits(string text) => text.ToLowerInvariant() switch
    {
        "int8" or "i8" => TensorElementType.Int8,
        "fp8" or "e4m3" or "f8_e4m3" => TensorElementType.Float8E4M3,
        "q8_0" => TensorElementType.Q8Block,
        _ => null,
    };

    /// <summary>A member by its name alone: a number is none.</summary>
    private static T NameOf<T>(string option, string text)
        where T : struct, Enum
    {
        foreach (T member in Enum.GetValues<T>())
        {
            if (member.ToString().Equals(text, StringComparison.OrdinalIgnoreCase)) return member;
        }

        throw new UsageException($"{option} '{text}' is not one of {string.Join(", ", Enum.GetNames<T>())}.");
    }
}
