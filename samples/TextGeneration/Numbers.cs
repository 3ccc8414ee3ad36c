using System.CommandLine.Parsing;
using System.Globalization;

namespace FusedAttention.Samples.TextGeneration;

/// <summary>Numbers of the command line, the same in every culture: "0,8" is refused, where a parser that knows of thousands would make 8 of it.</summary>
internal static class Numbers
{
    public static int Whole(ArgumentResult result)
    {
        if (int.TryParse(result.Tokens[0].Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number)) return number;
        return Refuse(result, "a whole number");
    }

    public static double Real(ArgumentResult result)
    {
        if (double.TryParse(result.Tokens[0].Value, NumberStyles.Float, CultureInfo.InvariantCulture, out double number)) return number;
        return Refuse(result, "a number, as 0.8");
    }

    private static int Refuse(ArgumentResult result, string form)
    {
        result.AddError($"{((OptionResult)result.Parent!).Option.Name} '{result.Tokens[0].Value}' is not {form}.");
        return 0;
    }
}
