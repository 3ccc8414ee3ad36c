using Xunit;

namespace FusedAttention.Architecture.Tests;

/// <summary>The reader on a house of two rooms that stands in this assembly: each way to name a type is one arrow, and nothing else is.</summary>
public sealed class PlantedHouseTests
{
    private static readonly House Planted = House.Read(AppContext.BaseDirectory, "FusedAttention.Architecture.Tests/Planted");

    [Fact]
    public void Rooms_are_folders_and_not_namespaces() => Assert.Equal(["Lower", "Upper"], Planted.Rooms);

    [Theory]
    [InlineData("ByBase", "NamedAsBase")]
    [InlineData("ByInterface", "INamedAsInterface")]
    [InlineData("IByConstraint", "INamedAsConstraint")]
    [InlineData("ByField", "NamedAsField")]
    [InlineData("IByParameter", "NamedAsParameter")]
    [InlineData("ByLocal", "NamedAsLocal")]
    [InlineData("ByCall", "NamedInCall")]
    [InlineData("ByLambda", "NamedInLambda")]
    [InlineData("ByIterator", "NamedInIterator")]
    [InlineData("ByTypeArgument", "NamedAsTypeArgument")]
    [InlineData("ByFunctionPointer", "NamedInFunctionPointer")]
    [InlineData("ByTypeOf", "NamedInTypeOf")]
    [InlineData("ByCatch", "NamedInCatchException")]
    [InlineData("ByEnum", "NamedEnum")]
    [InlineData("ByDelegate", "NamedDelegate")]
    [InlineData("ByAttribute", "NamedAsAttribute")]
    [InlineData("ByInnerType", "NamedWithinAType")]
    public void A_type_that_is_named_is_an_arrow(string type, string named)
        => Assert.Equal([new Arrow("Upper", "Lower", type, named)], Planted.Arrows.Where(arrow => string.Equals(arrow.Type, type, StringComparison.Ordinal)));

    [Fact]
    public void There_are_no_other_arrows()
    {
        Assert.Equal(17, Planted.Arrows.Length);
        Assert.DoesNotContain(Planted.Arrows, arrow => arrow.Type is "ByConstant"); // the compiler leaves no trace of it
    }
}
