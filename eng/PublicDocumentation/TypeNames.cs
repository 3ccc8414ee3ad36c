using System.Collections.Immutable;
using System.Globalization;
using System.Reflection.Metadata;

namespace FusedAttention.Engineering;

/// <summary>Types as documentation files write them: <c>Namespace.Outer.Inner{Argument}</c>, <c>`0</c> and <c>``0</c> for parameters of types and methods, <c>@</c> behind what goes by reference.</summary>
internal sealed class TypeNames : ISignatureTypeProvider<string, object?>
{
    public static string Of(MetadataReader reader, TypeDefinition type)
    {
        string name = reader.GetString(type.Name);
        TypeDefinitionHandle outer = type.GetDeclaringType();
        if (!outer.IsNil) return Of(reader, reader.GetTypeDefinition(outer)) + "." + name;
        return Qualified(reader, type.Namespace, name);
    }

    public string GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind) => Of(reader, reader.GetTypeDefinition(handle));

    public string GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind)
    {
        TypeReference type = reader.GetTypeReference(handle);
        string name = reader.GetString(type.Name);
        if (type.ResolutionScope.Kind == HandleKind.TypeReference) return GetTypeFromReference(reader, (TypeReferenceHandle)type.ResolutionScope, 0) + "." + name;
        return Qualified(reader, type.Namespace, name);
    }

    public string GetTypeFromSpecification(MetadataReader reader, object? context, TypeSpecificationHandle handle, byte rawTypeKind) => reader.GetTypeSpecification(handle).DecodeSignature(this, context);

    /// <summary>The arguments of a nested type are spread over it and those around it, each with as many as its name's tick says.</summary>
    public string GetGenericInstantiation(string genericType, ImmutableArray<string> typeArguments)
    {
        int next = 0;
        return string.Join(".", genericType.Split('.').Select(part =>
        {
            int tick = part.IndexOf('`');
            if (tick < 0) return part;
            int count = int.Parse(part.AsSpan(tick + 1), CultureInfo.InvariantCulture);
            string arguments = string.Join(",", typeArguments.Skip(next).Take(count));
            next += count;
            return part[..tick] + "{" + arguments + "}";
        }));
    }

    public string GetGenericTypeParameter(object? context, int index) => "`" + index;

    public string GetGenericMethodParameter(object? context, int index) => "``" + index;

    public string GetByReferenceType(string elementType) => elementType + "@";

    public string GetPointerType(string elementType) => elementType + "*";

    public string GetSZArrayType(string elementType) => elementType + "[]";

    public string GetArrayType(string elementType, ArrayShape shape) => elementType + "[" + string.Join(",", Enumerable.Repeat("0:", shape.Rank)) + "]";

    public string GetModifiedType(string modifier, string unmodifiedType, bool isRequired) => unmodifiedType;

    public string GetPinnedType(string elementType) => elementType;

    public string GetFunctionPointerType(MethodSignature<string> signature) => "";

    public string GetPrimitiveType(PrimitiveTypeCode typeCode) => "System." + typeCode;

    private static string Qualified(MetadataReader reader, StringHandle space, string name) => space.IsNil ? name : reader.GetString(space) + "." + name;
}
