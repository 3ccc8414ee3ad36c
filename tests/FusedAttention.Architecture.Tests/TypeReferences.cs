using System.Collections.Immutable;
using System.Reflection.Metadata;

namespace FusedAttention.Architecture.Tests;

/// <summary>A type as the runtime names it: its assembly and full name. Types inside types count as the outermost one.</summary>
internal readonly record struct TypeName(string Assembly, string Namespace, string Name)
{
    /// <summary>As it stands in source, without namespace and type parameters.</summary>
    public override string ToString() => Name.Split('`')[0];
}

/// <summary>Follows handles and signatures of one module to the types they name. The results that the decoder asks for say nothing: what is found goes to a set.</summary>
internal sealed class TypeReferences(MetadataReader reader, string assembly, HashSet<TypeName> found) : ISignatureTypeProvider<bool, bool>
{
    /// <summary>The outermost type around a definition.</summary>
    public static TypeDefinitionHandle Outermost(MetadataReader reader, TypeDefinitionHandle handle)
    {
        while (reader.GetTypeDefinition(handle).GetDeclaringType() is { IsNil: false } outer) handle = outer;
        return handle;
    }

    public static TypeName NameOf(MetadataReader reader, string assembly, TypeDefinitionHandle handle)
    {
        TypeDefinition type = reader.GetTypeDefinition(Outermost(reader, handle));
        return new(assembly, reader.GetString(type.Namespace), reader.GetString(type.Name));
    }

    /// <summary>Any handle that a metadata table or an instruction may hold.</summary>
    public void Add(EntityHandle handle)
    {
        if (handle.IsNil) return;
        switch (handle.Kind)
        {
            case HandleKind.TypeDefinition:
                found.Add(NameOf(reader, assembly, (TypeDefinitionHandle)handle));
                break;
            case HandleKind.TypeReference:
                Add(reader.GetTypeReference((TypeReferenceHandle)handle));
                break;
            case HandleKind.TypeSpecification:
                reader.GetTypeSpecification((TypeSpecificationHandle)handle).DecodeSignature(this, false);
                break;
            case HandleKind.MethodDefinition:
                Add(reader.GetMethodDefinition((MethodDefinitionHandle)handle).GetDeclaringType());
                break;
            case HandleKind.FieldDefinition:
                Add(reader.GetFieldDefinition((FieldDefinitionHandle)handle).GetDeclaringType());
                break;
            case HandleKind.MemberReference:
                Add(reader.GetMemberReference((MemberReferenceHandle)handle).Parent);
                break;
            case HandleKind.MethodSpecification:
                MethodSpecification method = reader.GetMethodSpecification((MethodSpecificationHandle)handle);
                Add(method.Method);
                method.DecodeSignature(this, false);
                break;
            case HandleKind.StandaloneSignature:
                StandaloneSignature signature = reader.GetStandaloneSignature((StandaloneSignatureHandle)handle);
                if (signature.GetKind() == StandaloneSignatureKind.LocalVariables) signature.DecodeLocalSignature(this, false);
                else signature.DecodeMethodSignature(this, false);
                break;
            default:
                throw new InvalidDataException($"A reference of kind {handle.Kind}.");
        }
    }

    private void Add(TypeReference type)
    {
        while (type.ResolutionScope.Kind == HandleKind.TypeReference) type = reader.GetTypeReference((TypeReferenceHandle)type.ResolutionScope);
        if (type.ResolutionScope.Kind != HandleKind.AssemblyReference) return;
        string elsewhere = reader.GetString(reader.GetAssemblyReference((AssemblyReferenceHandle)type.ResolutionScope).Name);
        found.Add(new(elsewhere, reader.GetString(type.Namespace), reader.GetString(type.Name)));
    }

    bool ISimpleTypeProvider<bool>.GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind)
    {
        Add(handle);
        return true;
    }

    bool ISimpleTypeProvider<bool>.GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind)
    {
        Add(handle);
        return true;
    }

    bool ISignatureTypeProvider<bool, bool>.GetTypeFromSpecification(MetadataReader reader, bool genericContext, TypeSpecificationHandle handle, byte rawTypeKind)
    {
        Add(handle);
        return true;
    }

    bool ISignatureTypeProvider<bool, bool>.GetModifiedType(bool modifier, bool unmodifiedType, bool isRequired) => true;

    bool ISignatureTypeProvider<bool, bool>.GetFunctionPointerType(MethodSignature<bool> signature) => true;

    bool ISignatureTypeProvider<bool, bool>.GetGenericMethodParameter(bool genericContext, int index) => true;

    bool ISignatureTypeProvider<bool, bool>.GetGenericTypeParameter(bool genericContext, int index) => true;

    bool ISignatureTypeProvider<bool, bool>.GetPinnedType(bool elementType) => true;

    bool IConstructedTypeProvider<bool>.GetArrayType(bool elementType, ArrayShape shape) => true;

    bool IConstructedTypeProvider<bool>.GetByReferenceType(bool elementType) => true;

    bool IConstructedTypeProvider<bool>.GetGenericInstantiation(bool genericType, ImmutableArray<bool> typeArguments) => true;

    bool IConstructedTypeProvider<bool>.GetPointerType(bool elementType) => true;

    bool ISZArrayTypeProvider<bool>.GetSZArrayType(bool elementType) => true;

    bool ISimpleTypeProvider<bool>.GetPrimitiveType(PrimitiveTypeCode typeCode) => true;
}
