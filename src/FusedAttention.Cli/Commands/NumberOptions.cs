using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace FusedAttention.Cli.Commands;

/// <summary>Numbers of the command line, read alike in every culture: digits, a point, an exponent. "0,5" is no number, nor is "1,000"; what is out of range is refused in the option's own words.</summary>
internal static class NumberOptions
{
    /// <summary>A whole number from <paramref name="least"/> on.</summary>
    public static Option<int> WholeNumber(this Option<int> option, int least = 1, int most = int.MaxValue)
    {
        option.CustomParser = result => (int)Whole(result, least, most);
        return option;
    }

    /// <inheritdoc cref="WholeNumber(Option{int}, int, int)"/>
    public static Option<int?> WholeNumber(this Option<int?> option, int least = 1, int most = int.MaxValue)
    {
        option.CustomParser = result => (int)Whole(result, least, most);
        return option;
    }

    /// <summary>Any whole number.</summary>
    public static Option<long?> WholeNumber(this Option<long?> option)
    {
        option.CustomParser = result => Whole(result, long.MinValue, long.MaxValue);
        return option;
    }

    /// <summary>A finite number above 0.</summary>
    public static Option<float?> Positive(this Option<float?> option)
    {
        option.CustomParser = static result => (float)Number(result, "a number above 0, as 0.125", static number => (float)number > 0 && float.IsFinite((float)number));
        return option;
    }

    /// <summary>A finite number of 0 or more.</summary>
    public static Option<float?> NotNegative(this Option<float?> option)
    {
        option.CustomParser = static result => (float)Number(result, "a number of 0 or more, as 30", static number => number >= 0 && float.IsFinite((float)number));
        return option;
    }

    /// <summary>A time in seconds, above 0.</summary>
    public static Option<double?> Seconds(this Option<double?> option)
    {
        option.CustomParser = static result => Number(result, "a time above 0, below 1000000, as 0.5", static number => number is > 0 and < 1e6);
        return option;
    }

    private static long Whole(ArgumentResult result, long least, long most)
    {
        string text = result.Tokens[0].Value;
        if (long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) && number >= least && number <= most) return number;
        string range = most < int.MaxValue ? $" from {least} to {most}" : least == long.MinValue ? "" : $" of {least} or more, at most {most}";
        result.AddError($"{NameOf(result)} '{text}' is not a whole number{range}.");
        return 0;
    }

    private static double Number(ArgumentResult result, string form, Func<double, bool> isAllowed)
    {
        string text = result.Tokens[0].Value;
        if (double.TryParse(text, NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, CultureInfo.InvariantCulture, out double number) && isAllowed(number)) return number;
        result.AddError($"{NameOf(result)} '{text}' is not {form}.");
        return 0;
    }

    private static string NameOf(ArgumentResult result) => (result.Parent as OptionResult)?.Option.Name ?? result.Argument.Name;
}
