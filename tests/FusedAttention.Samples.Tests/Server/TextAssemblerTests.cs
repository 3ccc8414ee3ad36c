using System.Text;
using FusedAttention.Samples.Server.Engine;
using FusedAttention.Samples.TextGeneration.Tokens;
using Xunit;

namespace FusedAttention.Samples.Tests.Server;

public sealed class TextAssemblerTests
{
    [Theory]
    [InlineData("one two three", "two", "one ", true)]
    [InlineData("one tw", "two", "one tw", false)]
    [InlineData("aaab", "aab", "a", true)]
    [InlineData("één ☃ twee", "twee", "één ☃ ", true)]
    [InlineData("abc", "", "abc", false)]
    [InlineData("stop", "stop", "", true)]
    public void Stop_strings_end_a_text_and_nothing_of_them_shows(string text, string stop, string expected, bool stops)
    {
        var assembler = new TextAssembler(new ByteTokenizer(), -1, stop.Length > 0 ? [stop, "never"] : []);
        var got = new StringBuilder();
        foreach (byte token in Encoding.UTF8.GetBytes(text))
        {
            got.Append(assembler.Add(token));
            Assert.StartsWith(got.ToString(), expected, StringComparison.Ordinal);
        }

        got.Append(assembler.Finish());
        Assert.Equal((expected, stops), (got.ToString(), assembler.HasStopped));
    }

    [Fact]
    public void The_earliest_of_several_stops_counts_and_half_a_character_becomes_a_mark()
    {
        var assembler = new TextAssembler(new ByteTokenizer(), 0, ["cd", "bc"]);
        Assert.Equal("a", string.Concat("abcd"u8.ToArray().Select(token => assembler.Add(token))));
        var half = new TextAssembler(new ByteTokenizer(), 0, []);
        Assert.Equal("a", half.Add('a') + half.Add(0xC3) + half.Add(0));
        Assert.Equal("\uFFFD", half.Finish());
    }
}
