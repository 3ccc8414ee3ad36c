using System.Text.RegularExpressions;
using System.Xml.Linq;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>What an editor shows beside a call: tensors in the wrong order give wrong numbers and no error, so the summary itself says the order, not only the parameters.</summary>
public sealed partial class SummaryTests
{
    [Theory]
    [InlineData("FusedAttention")]
    [InlineData("FusedAttention.Cuda")]
    [InlineData("FusedAttention.Metal")]
    public void A_call_that_takes_tensors_says_their_shapes_in_its_summary(string library)
    {
        XElement[] calls = [.. XDocument.Load(Path.Combine(AppContext.BaseDirectory, library + ".xml")).Descendants("member").Where(static member => Call().IsMatch((string)member.Attribute("name")!))];
        Assert.NotEmpty(calls);
        Assert.All(calls, static call => Assert.Matches(@"\[\w", call.Element("summary")?.Value ?? ""));
    }

    [GeneratedRegex(@"\.(Forward\w*|Merge|GetWeights|Write|Append|Apply)(``\d)?\([^)]*(Tensor|Span)", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Call();
}
