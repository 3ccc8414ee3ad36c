using System.Globalization;
using System.Reflection;
using System.Text.RegularExpressions;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using Xunit;

namespace FusedAttention.Tests.Metal;

/// <summary>What the kernels' text and the planner say of each other: structures, slots, function constants.</summary>
public sealed partial class KernelContractTests
{
    [Theory]
    [InlineData(typeof(AttentionParameters))]
    [InlineData(typeof(SequenceEntry))]
    [InlineData(typeof(WorkItem))]
    [InlineData(typeof(MergeParameters))]
    [InlineData(typeof(CacheParameters))]
    [InlineData(typeof(SlotCopy))]
    public void Structures_have_the_same_fields_in_both_languages(Type type)
    {
        string text = KernelSource.File("parameters.metal");
        Match match = Regex.Match(text, $@"struct {type.Name} \{{(?<fields>[^}}]*)\}};", RegexOptions.ExplicitCapture, TimeSpan.FromSeconds(5));
        Assert.True(match.Success, $"parameters.metal has no {type.Name}.");
        string[] theirs = [.. Field().Matches(match.Groups["fields"].Value).Select(field => $"{field.Groups["type"].Value} {field.Groups["name"].Value}")];
        string[] ours = [.. type.GetFields(BindingFlags.Public | BindingFlags.Instance).Select(field => $"{MetalType(field.FieldType)} {Snake(field.Name)}")];
        Assert.Equal(ours, theirs);

        // 8-byte fields first: then both languages put them at the same offsets.
        int[] sizes = [.. ours.Select(field => field.StartsWith("long", StringComparison.Ordinal) ? 8 : 4)];
        Assert.Equal(sizes.OrderDescending(), sizes);
        Assert.True(!sizes.Contains(8) || sizes.Count(size => size == 4) % 2 == 0, "Padding at the end.");
    }

    [Theory]
    [InlineData("prefill.metal")]
    [InlineData("decode.metal")]
    [InlineData("plain.metal")]
    [InlineData("splits.metal")]
    public void Arguments_are_in_the_slots_of_the_table(string file)
    {
        var slots = typeof(BufferSlot).GetFields().ToDictionary(field => Snake(field.Name), field => (int)field.GetRawConstantValue()!, StringComparer.Ordinal);
        MatchCollection arguments = BufferArgument().Matches(KernelSource.File(file));
        Assert.NotEmpty(arguments);
        foreach (Match argument in arguments)
        {
            Assert.Equal(slots[argument.Groups["name"].Value], int.Parse(argument.Groups["slot"].ValueSpan, CultureInfo.InvariantCulture));
        }
    }

    [Fact]
    public void The_parameter_block_fits_setBytes() => Assert.InRange(System.Runtime.CompilerServices.Unsafe.SizeOf<AttentionParameters>(), 1, 4095);

    private static string MetalType(Type type) => type == typeof(long) ? "long" : type == typeof(float) ? "float" : "int";

    private static string Snake(string name) => Capital().Replace(name, match => (match.Index == 0 ? "" : "_") + match.Value.ToLowerInvariant());

    [GeneratedRegex(@"^\s*(?<type>long|int|float) (?<name>\w+);", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Field();

    [GeneratedRegex(@"(?<name>\w+) \[\[buffer\((?<slot>\d+)\)\]\]", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex BufferArgument();

    [GeneratedRegex("[A-Z]", RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Capital();
}
