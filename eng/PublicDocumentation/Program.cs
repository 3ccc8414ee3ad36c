using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Xml.Linq;
using FusedAttention.Engineering;

// PublicDocumentation ASSEMBLY DOCUMENTATION: takes out of an assembly's documentation file what no other assembly can name. The compiler writes all members into it: of 1,627 in the library's file, most are
// internal, and they are half of a package's bytes.
if (args is not [string assemblyFile, string documentationFile])
{
    Console.Error.WriteLine("PublicDocumentation ASSEMBLY DOCUMENTATION");
    return 2;
}

using var assembly = new PEReader(File.OpenRead(assemblyFile));
HashSet<string> visible = VisibleNames.Of(assembly.GetMetadataReader());
XDocument documentation = XDocument.Load(documentationFile, LoadOptions.PreserveWhitespace);
XElement[] members = [.. documentation.Root!.Element("members")!.Elements("member")];
XElement[] hidden = [.. members.Where(member => !visible.Contains(member.Attribute("name")!.Value))];
if (hidden.Length == members.Length && members.Length > 0)
{
    Console.Error.WriteLine($"{documentationFile} has no public member of {assemblyFile}: names are made in another way than the compiler's.");
    return 1;
}

foreach (XElement member in hidden)
{
    (member.PreviousNode as XText)?.Remove();
    member.Remove();
}

documentation.Save(documentationFile, SaveOptions.DisableFormatting);
return 0;
