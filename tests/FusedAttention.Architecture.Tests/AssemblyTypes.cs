using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;

namespace FusedAttention.Architecture.Tests;

/// <summary>A type of ours: the source files it stands in, and the types that it names.</summary>
internal sealed record HouseType(TypeName Name, IReadOnlySet<string> Files, IReadOnlySet<TypeName> Names);

/// <summary>
/// Reads an assembly and its portable symbols. Namespaces do not tell rooms apart (public types of several folders are all in <c>FusedAttention</c>), so a type's place is its source files: those of its
/// methods' sequence points, and, for types without code, the documents that the compiler lists for them.
/// </summary>
/// <remarks>
/// Seen: bases, interfaces, constraints, fields, signatures, attributes, locals, caught exceptions and all that instructions name. Not seen, because the compiler leaves nothing of it: constants and
/// enum members (a <c>const</c> or an <c>AttentionElementType.Half</c> of another room is a number here; a variable or parameter of the enum's type is seen), <c>nameof</c>, a <c>using</c> without use, names in comments, and
/// <c>typeof</c> among the arguments of an attribute.
/// </remarks>
internal static class AssemblyTypes
{
    /// <summary>What the compiler lists as the documents of a type without code: "TypeDefinitionDocuments" of the portable PDB format.</summary>
    private static readonly Guid TypeDocuments = new("932E74BC-DBA9-4478-8D46-0F32A7BAB3D3");

    /// <summary>The types of an assembly that stand in source files; what compilers and generators add by themselves does not.</summary>
    public static List<HouseType> Read(string path)
    {
        using var image = new PEReader(File.OpenRead(path));
        using MetadataReaderProvider symbols = MetadataReaderProvider.FromPortablePdbStream(File.OpenRead(Path.ChangeExtension(path, ".pdb")));
        MetadataReader reader = image.GetMetadataReader(), pdb = symbols.GetMetadataReader();
        string assembly = reader.GetString(reader.GetAssemblyDefinition().Name);

        var parts = new Dictionary<TypeName, (HashSet<string> Files, HashSet<TypeName> Names)>();
        foreach (TypeDefinitionHandle handle in reader.TypeDefinitions)
        {
            TypeName name = TypeReferences.NameOf(reader, assembly, handle);
            if (!parts.TryGetValue(name, out (HashSet<string> Files, HashSet<TypeName> Names) part)) parts.Add(name, part = ([], []));
            AddFiles(reader, pdb, handle, part.Files);
            AddNames(image, reader, new TypeReferences(reader, assembly, part.Names), handle);
        }

        var types = new List<HouseType>();
        foreach ((TypeName name, (HashSet<string> files, HashSet<TypeName> names)) in parts)
        {
            names.Remove(name);
            if (files.Count > 0) types.Add(new(name, files, names));
            else if (!IsSynthesised(name)) throw new InvalidDataException($"{assembly}: no source file is known of {name.Namespace}.{name.Name}.");
        }

        return types;
    }

    /// <summary>Of nobody's source: what the compiler makes for literals and collections, and attributes that it embeds.</summary>
    private static bool IsSynthesised(TypeName name)
        => name.Name.StartsWith('<') || name.Namespace is "System.Runtime.CompilerServices" or "Microsoft.CodeAnalysis";

    private static void AddFiles(MetadataReader reader, MetadataReader pdb, TypeDefinitionHandle handle, HashSet<string> files)
    {
        foreach (MethodDefinitionHandle method in reader.GetTypeDefinition(handle).GetMethods())
        {
            MethodDebugInformation information = pdb.GetMethodDebugInformation(method);
            if (!information.SequencePointsBlob.IsNil)
            {
                foreach (SequencePoint point in information.GetSequencePoints()) Add(point.Document);
            }
        }

        foreach (CustomDebugInformationHandle custom in pdb.GetCustomDebugInformation(handle))
        {
            CustomDebugInformation information = pdb.GetCustomDebugInformation(custom);
            if (pdb.GetGuid(information.Kind) != TypeDocuments) continue;
            BlobReader rows = pdb.GetBlobReader(information.Value);
            while (rows.RemainingBytes > 0) Add(MetadataTokens.DocumentHandle(rows.ReadCompressedInteger()));
        }

        void Add(DocumentHandle document)
        {
            if (!document.IsNil) files.Add(pdb.GetString(pdb.GetDocument(document).Name).Replace('\\', '/'));
        }
    }

    private static void AddNames(PEReader image, MetadataReader reader, TypeReferences names, TypeDefinitionHandle handle)
    {
        TypeDefinition type = reader.GetTypeDefinition(handle);
        names.Add(type.BaseType);
        foreach (InterfaceImplementationHandle implementation in type.GetInterfaceImplementations()) names.Add(reader.GetInterfaceImplementation(implementation).Interface);
        AddParameters(type.GetGenericParameters());
        AddAttributes(type.GetCustomAttributes());
        foreach (FieldDefinitionHandle field in type.GetFields())
        {
            reader.GetFieldDefinition(field).DecodeSignature(names, false);
            AddAttributes(reader.GetFieldDefinition(field).GetCustomAttributes());
        }

        foreach (PropertyDefinitionHandle property in type.GetProperties()) AddAttributes(reader.GetPropertyDefinition(property).GetCustomAttributes());
        foreach (EventDefinitionHandle @event in type.GetEvents()) AddAttributes(reader.GetEventDefinition(@event).GetCustomAttributes());
        foreach (MethodDefinitionHandle method in type.GetMethods()) AddMethod(reader.GetMethodDefinition(method));

        void AddMethod(MethodDefinition method)
        {
            method.DecodeSignature(names, false);
            AddParameters(method.GetGenericParameters());
            AddAttributes(method.GetCustomAttributes());
            foreach (ParameterHandle parameter in method.GetParameters()) AddAttributes(reader.GetParameter(parameter).GetCustomAttributes());
            if (method.RelativeVirtualAddress == 0) return;
            MethodBodyBlock body = image.GetMethodBody(method.RelativeVirtualAddress);
            names.Add(body.LocalSignature);
            foreach (ExceptionRegion region in body.ExceptionRegions) names.Add(region.CatchType);
            foreach (EntityHandle named in Instructions.Names(body.GetILBytes()!)) names.Add(named);
        }

        void AddParameters(GenericParameterHandleCollection parameters)
        {
            foreach (GenericParameterHandle parameter in parameters)
            {
                foreach (GenericParameterConstraintHandle constraint in reader.GetGenericParameter(parameter).GetConstraints()) names.Add(reader.GetGenericParameterConstraint(constraint).Type);
                AddAttributes(reader.GetGenericParameter(parameter).GetCustomAttributes());
            }
        }

        void AddAttributes(CustomAttributeHandleCollection attributes)
        {
            foreach (CustomAttributeHandle attribute in attributes) names.Add(reader.GetCustomAttribute(attribute).Constructor);
        }
    }
}
