using Xunit;

namespace FusedAttention.Architecture.Tests;

public sealed class ArrowTableTests
{
    [Fact]
    public void A_room_may_name_what_lies_behind_its_arrows_and_nothing_else()
    {
        var table = new ArrowTable("roof -> left, right\nleft -> cellar\nright\ncellar ->\n");
        Assert.Equal("cellar left right roof", string.Join(' ', table.Rooms.Order(StringComparer.Ordinal)));
        foreach ((string from, string to) in ((string, string)[])[("roof", "left"), ("roof", "right"), ("roof", "cellar"), ("left", "cellar")]) Assert.True(table.Allows(from, to), $"{from} -> {to}");
        foreach ((string from, string to) in ((string, string)[])[("left", "right"), ("right", "cellar"), ("cellar", "roof"), ("left", "roof"), ("roof", "attic"), ("attic", "roof")]) Assert.False(table.Allows(from, to), $"{from} -> {to}");
    }

    [Theory]
    [InlineData("a -> b\nb -> c\nc -> a", "circle")]
    [InlineData("a -> a", "circle")]
    [InlineData("a -> b", "no line for it")]
    [InlineData("a\na", "twice")]
    [InlineData("a => b\nb", "no room")]
    public void A_table_that_is_none_is_refused(string lines, string words) => Assert.Contains(words, Assert.Throws<FormatException>(() => new ArrowTable(lines)).Message, StringComparison.Ordinal);
}
