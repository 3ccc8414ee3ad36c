using System.Globalization;

namespace FusedAttention.Cuda.Emulation.Syntax;

/// <summary>Reads a text from left to right, past white space and comments.</summary>
internal sealed class PtxLexer(string text)
{
    private int _at;
    private int _line = 1;

    /// <summary>The line of what comes next.</summary>
    public int Line
    {
        get
        {
            SkipSpace();
            return _line;
        }
    }

    public bool IsAtEnd
    {
        get
        {
            SkipSpace();
            return _at == text.Length;
        }
    }

    /// <summary>The next character that counts, or 0.</summary>
    public char Next
    {
        get
        {
            SkipSpace();
            return _at < text.Length ? text[_at] : '\0';
        }
    }

    public CudaEmulationException Error(string what) => new(string.Create(CultureInfo.InvariantCulture, $"Line {_line} of the PTX text: {what}."));

    public bool Take(char character)
    {
        if (Next != character) return false;
        _at++;
        return true;
    }

    public void Expect(char character)
    {
        if (!Take(character)) throw Error($"'{character}' is expected, and '{(Next == '\0' ? "the end" : Next)}' is there");
    }

    /// <summary>A name: of registers with a percent sign, and of special ones with a component behind a dot.</summary>
    public string Name()
    {
        SkipSpace();
        int start = _at;
        while (_at < text.Length && IsNameCharacter(text[_at])) _at++;
        if (_at == start) throw Error($"a name is expected, and '{Next}' is there");
        return text[start.._at];
    }

    /// <summary>What is left of an opcode behind its first name: modifiers may have two colons inside.</summary>
    public string RestOfOpcode()
    {
        int start = _at;
        while (_at < text.Length && (IsNameCharacter(text[_at]) || (text[_at] == ':' && (Peek(1) == ':' || text[_at - 1] == ':')))) _at++;
        return text[start.._at];
    }

    /// <summary>Whether a single colon comes directly: the mark of a label.</summary>
    public bool IsAtLabelColon() => _at < text.Length && text[_at] == ':' && Peek(1) != ':';

    /// <summary>An integer, a float by its bits, or a decimal fraction.</summary>
    public Operand Number()
    {
        SkipSpace();
        bool isNegative = Take('-');
        int start = _at;
        while (_at < text.Length && (char.IsAsciiLetterOrDigit(text[_at]) || text[_at] == '.')) _at++;
        string digits = text[start.._at];
        if (digits.Length == 10 && digits.StartsWith("0f", StringComparison.OrdinalIgnoreCase)) return new FloatOperand(Hexadecimal(digits[2..]), IsDouble: false);
        if (digits.Length == 18 && digits.StartsWith("0d", StringComparison.OrdinalIgnoreCase)) return new FloatOperand(Hexadecimal(digits[2..]), IsDouble: true);
        if (digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            long value = unchecked((long)Hexadecimal(digits[2..].TrimEnd('U')));
            return new IntegerOperand(isNegative ? -value : value);
        }

        if (digits.Contains('.', StringComparison.Ordinal) && double.TryParse(digits, CultureInfo.InvariantCulture, out double fraction))
            return new FloatOperand(BitConverter.DoubleToUInt64Bits(isNegative ? -fraction : fraction), IsDouble: true);
        if (!ulong.TryParse(digits.TrimEnd('U'), CultureInfo.InvariantCulture, out ulong number)) throw Error($"'{digits}' is no number");
        return new IntegerOperand(isNegative ? unchecked(-(long)number) : unchecked((long)number));
    }

    private ulong Hexadecimal(string digits) =>
        ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong value) ? value : throw Error($"'{digits}' is no hexadecimal number");

    private char Peek(int ahead) => _at + ahead < text.Length ? text[_at + ahead] : '\0';

    private static bool IsNameCharacter(char c) => char.IsAsciiLetterOrDigit(c) || c is '_' or '$' or '%' or '.';

    private void SkipSpace()
    {
        while (_at < text.Length)
        {
            char c = text[_at];
            if (c == '\n') _line++;
            if (char.IsWhiteSpace(c))
            {
                _at++;
            }
            else if (c == '/' && Peek(1) == '/')
            {
                while (_at < text.Length && text[_at] != '\n') _at++;
            }
            else if (c == '/' && Peek(1) == '*')
            {
                int end = text.IndexOf("*/", _at + 2, StringComparison.Ordinal);
                if (end < 0) throw Error("a comment has no end");
                _line += text.AsSpan(_at, end - _at).Count('\n');
                _at = end + 2;
            }
            else
            {
                return;
            }
        }
    }
}
