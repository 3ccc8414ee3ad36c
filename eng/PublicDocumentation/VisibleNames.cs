using System.Reflection;
using System.Reflection.Metadata;

namespace FusedAttention.Engineering;

/// <summary>The public and protected members of an assembly, by their names in its documentation file. The file itself does not say who is public, so names are made again from metadata.</summary>
internal static class VisibleNames
{
    public static HashSet<string> Of(MetadataReader reader)
    {
        var names = new HashSet<string>(StringComparer.Ordinal);
        var signatures = new TypeNames();
        foreach (TypeDefinition type in reader.TypeDefinitions.Select(reader.GetTypeDefinition).Where(type => IsVisible(reader, type)))
        {
            string typeName = TypeNames.Of(reader, type);
            names.Add("T:" + typeName);
            foreach (FieldDefinition field in type.GetFields().Select(reader.GetFieldDefinition))
                if (IsSeenOutside((MethodAttributes)(field.Attributes & FieldAttributes.FieldAccessMask))) names.Add("F:" + typeName + "." + Name(reader, field.Name));

            foreach (MethodDefinition method in type.GetMethods().Select(reader.GetMethodDefinition))
                if (IsSeenOutside(method.Attributes)) names.Add("M:" + typeName + "." + Signature(Name(reader, method.Name), method.DecodeSignature(signatures, null)));

            foreach (PropertyDefinition property in type.GetProperties().Select(reader.GetPropertyDefinition))
            {
                PropertyAccessors accessors = property.GetAccessors();
                if (IsSeen(reader, accessors.Getter) || IsSeen(reader, accessors.Setter)) names.Add("P:" + typeName + "." + Signature(Name(reader, property.Name), property.DecodeSignature(signatures, null)));
            }

            foreach (EventDefinition raised in type.GetEvents().Select(reader.GetEventDefinition))
                if (IsSeen(reader, raised.GetAccessors().Adder)) names.Add("E:" + typeName + "." + Name(reader, raised.Name));
        }

        return names;
    }

    private static bool IsVisible(MetadataReader reader, TypeDefinition type)
    {
        switch (type.Attributes & TypeAttributes.VisibilityMask)
        {
            case TypeAttributes.Public: return true;
            case TypeAttributes.NestedPublic:
            case TypeAttributes.NestedFamily:
            case TypeAttributes.NestedFamORAssem: return IsVisible(reader, reader.GetTypeDefinition(type.GetDeclaringType()));
            default: return false;
        }
    }

    private static bool IsSeen(MetadataReader reader, MethodDefinitionHandle accessor) => !accessor.IsNil && IsSeenOutside(reader.GetMethodDefinition(accessor).Attributes);

    private static bool IsSeenOutside(MethodAttributes attributes)
    {
        MethodAttributes access = attributes & MethodAttributes.MemberAccessMask;
        return access == MethodAttributes.Public || access == MethodAttributes.Family || access == MethodAttributes.FamORAssem;
    }

    private static string Name(MetadataReader reader, StringHandle name) => reader.GetString(name).Replace('.', '#');

    private static string Signature(string name, MethodSignature<string> signature)
    {
        string generic = signature.GenericParameterCount == 0 ? "" : "``" + signature.GenericParameterCount;
        string parameters = signature.ParameterTypes.IsEmpty ? "" : "(" + string.Join(",", signature.ParameterTypes) + ")";
        string result = name is "op_Implicit" or "op_Explicit" ? "~" + signature.ReturnType : "";
        return name + generic + parameters + result;
    }
}
