using System.Reflection;
using System.Runtime.CompilerServices;
using System.Xml.Linq;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>The documentation file that is packed has the public members, all of them, and no others (<c>eng/PublicDocumentation</c>).</summary>
public sealed class DocumentationFileTests
{
    private static readonly string[] Names =
    [
        .. XDocument.Load(Path.ChangeExtension(typeof(Attention).Assembly.Location, ".xml")).Root!.Element("members")!.Elements("member").Select(static member => member.Attribute("name")!.Value),
    ];

    [Fact]
    public void Types_are_those_that_are_exported()
    {
        string[] exported = [.. typeof(Attention).Assembly.GetExportedTypes().Select(static type => $"T:{type.FullName}").Order(StringComparer.Ordinal)];
        string[] documented = [.. Names.Where(static name => name.StartsWith("T:", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        Assert.Equal(exported, documented);
    }

    [Fact]
    public void Methods_are_those_that_can_be_called()
    {
        // What the compiler makes for records has no documentation; all else must.
        foreach (Type type in typeof(Attention).Assembly.GetExportedTypes().Where(static type => !type.IsEnum))
        {
            const BindingFlags Declared = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
            foreach (IGrouping<string, MethodInfo> overloads in type.GetMethods(Declared).Where(IsWritten).GroupBy(static method => method.Name, StringComparer.Ordinal))
            {
                string prefix = $"M:{type.FullName}.{overloads.Key}";
                int documented = Names.Count(name => name.StartsWith(prefix, StringComparison.Ordinal) && (name.Length == prefix.Length || name[prefix.Length] is '(' or '`' or '~'));
                Assert.True(overloads.Count() == documented, $"{type.Name}.{overloads.Key} has {overloads.Count()} public overloads, and {documented} in the documentation file.");
            }
        }
    }

    private static bool IsWritten(MethodInfo method) => method.GetCustomAttribute<CompilerGeneratedAttribute>() is null && (!method.IsSpecialName || method.Name.StartsWith("op_", StringComparison.Ordinal));
}
