using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>
/// The public surface of each library against its PublicApi.txt, so that no change of it goes unseen.
/// FUSEDATTENTION_UPDATE_API=1 rewrites the files instead.
/// </summary>
internal static class PublicSurface
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    private static readonly Dictionary<Type, string> Keywords = new()
    {
        [typeof(void)] = "void", [typeof(bool)] = "bool", [typeof(byte)] = "byte", [typeof(ushort)] = "ushort", [typeof(int)] = "int", [typeof(uint)] = "uint",
        [typeof(long)] = "long", [typeof(ulong)] = "ulong", [typeof(nint)] = "nint", [typeof(float)] = "float", [typeof(double)] = "double",
        [typeof(string)] = "string", [typeof(object)] = "object",
    };

    /// <summary>Compares a library with its file, or writes the file.</summary>
    public static void AssertIsTheOneOnFile(Assembly library)
    {
        string path = Path.Combine(ReferenceData.Root, "src", library.GetName().Name!, "PublicApi.txt");
        string[] actual = Describe(library);
        if (Environment.GetEnvironmentVariable("FUSEDATTENTION_UPDATE_API") is "1")
        {
            File.WriteAllText(path, string.Join('\n', actual) + "\n");
            return;
        }

        string[] expected = File.Exists(path) ? File.ReadAllLines(path) : [];
        string[] gone = [.. expected.Except(actual, StringComparer.Ordinal).Select(line => "- " + line)];
        string[] added = [.. actual.Except(expected, StringComparer.Ordinal).Select(line => "+ " + line)];
        if (gone.Length + added.Length == 0 && actual.AsSpan().SequenceEqual(expected)) return;
        Assert.Fail(
            $"The public surface differs from {path}; if that is meant, run this test with FUSEDATTENTION_UPDATE_API=1.\n{string.Join('\n', [.. gone, .. added])}");
    }

    /// <summary>One line a member, each with its type's name in front, so that a changed line says where it belongs.</summary>
    private static string[] Describe(Assembly assembly)
    {
        var all = new List<string>();
        foreach (Type type in assembly.GetExportedTypes().OrderBy(Name, StringComparer.Ordinal))
        {
            all.Add(DescribeType(type));
            var lines = new List<string>();
            string owner = Name(type) + ".";
            foreach (FieldInfo field in type.GetFields(Declared).Where(f => IsVisible(f.IsPublic, f.IsFamily || f.IsFamilyOrAssembly) && !f.IsSpecialName))
            {
                lines.Add(type.IsEnum ? $"{owner}{field.Name} = {Convert.ToInt64(field.GetRawConstantValue(), CultureInfo.InvariantCulture)}" : $"{owner}{field.Name}: {Name(field.FieldType)}");
            }

            foreach (PropertyInfo property in type.GetProperties(Declared)) AddProperty(lines, owner, property);
            foreach (EventInfo e in type.GetEvents(Declared)) lines.Add($"{owner}{e.Name}: event {Name(e.EventHandlerType!)}");
            foreach (MethodBase method in type.GetMembers(Declared).OfType<MethodBase>()) AddMethod(lines, owner, method);
            all.AddRange(lines.Order(StringComparer.Ordinal));
        }

        return [.. all];
    }

    private static string DescribeType(Type type)
    {
        string kind = type.IsEnum ? "enum"
            : type.IsInterface ? "interface"
            : type.IsSubclassOf(typeof(Delegate)) ? "delegate"
            : type.IsValueType ? (type.IsByRefLike ? "ref struct" : "struct")
            : (type.IsAbstract, type.IsSealed) switch { (true, true) => "static class", (true, false) => "abstract class", (false, true) => "sealed class", _ => "class" };
        string[] bases = type.IsEnum ? [] : [.. type.GetInterfaces().Select(Name).Order(StringComparer.Ordinal)];
        if (type is { IsClass: true, BaseType: { } parent } && parent != typeof(object)) bases = [Name(parent), .. bases];
        return $"{Name(type)}: {kind}{(bases.Length == 0 ? "" : $" ({string.Join(", ", bases)})")}";
    }

    private static void AddProperty(List<string> lines, string owner, PropertyInfo property)
    {
        var accessors = new StringBuilder();
        if (property.GetMethod is { } get && IsVisible(get.IsPublic, get.IsFamily || get.IsFamilyOrAssembly)) accessors.Append(" get;");
        if (property.SetMethod is { } set && IsVisible(set.IsPublic, set.IsFamily || set.IsFamilyOrAssembly))
        {
            bool isInit = set.ReturnParameter.GetRequiredCustomModifiers().Contains(typeof(IsExternalInit));
            accessors.Append(isInit ? " init;" : " set;");
        }

        if (accessors.Length == 0) return;
        string isStatic = property.GetAccessors(nonPublic: true)[0].IsStatic ? "static " : "";
        string index = property.GetIndexParameters() is { Length: > 0 } parameters ? $"[{string.Join(", ", parameters.Select(Parameter))}]" : "";
        lines.Add($"{owner}{property.Name}{index}: {isStatic}{Name(property.PropertyType)}{Question(new NullabilityInfoContext().Create(property))} {{{accessors} }}");
    }

    private static void AddMethod(List<string> lines, string owner, MethodBase method)
    {
        if (!IsVisible(method.IsPublic, method.IsFamily || method.IsFamilyOrAssembly)) return;
        bool isOperator = method.Name.StartsWith("op_", StringComparison.Ordinal);
        // Accessors are listed as properties; what the compiler adds to records says nothing about them.
        if ((method.IsSpecialName && !isOperator && !method.IsConstructor) || method.IsDefined(typeof(CompilerGeneratedAttribute))) return;
        string generic = method.IsGenericMethodDefinition ? $"<{string.Join(", ", method.GetGenericArguments().Select(Constraints))}>" : "";
        string returns = method is MethodInfo info ? $": {(method.IsStatic ? "static " : "")}{Name(info.ReturnType)}{Question(new NullabilityInfoContext().Create(info.ReturnParameter))}" : "";
        lines.Add($"{owner}{method.Name}{generic}({string.Join(", ", method.GetParameters().Select(Parameter))}){returns}");
    }

    private static string Constraints(Type argument)
        => argument.GenericParameterAttributes.HasFlag(GenericParameterAttributes.NotNullableValueTypeConstraint)
            ? $"{argument.Name}: {(argument.CustomAttributes.Any(a => a.AttributeType.Name is "IsUnmanagedAttribute") ? "unmanaged" : "struct")}"
            : argument.Name;

    private static string Parameter(ParameterInfo parameter)
    {
        string prefix = parameter.IsOut ? "out " : parameter.IsIn ? "in " : parameter.ParameterType.IsByRef ? "ref " : "";
        if (parameter.IsDefined(typeof(ParamArrayAttribute)) || parameter.CustomAttributes.Any(a => a.AttributeType.Name is "ParamCollectionAttribute")) prefix += "params ";
        string value = parameter.HasDefaultValue ? $" = {parameter.DefaultValue ?? "default"}" : "";
        return $"{prefix}{Name(parameter.ParameterType)}{Question(new NullabilityInfoContext().Create(parameter))} {parameter.Name}{value}";
    }

    private static string Name(Type type)
    {
        if (type.IsByRef) return Name(type.GetElementType()!);
        if (type.IsPointer) return Name(type.GetElementType()!) + "*";
        if (type.IsArray) return Name(type.GetElementType()!) + "[]";
        if (Keywords.TryGetValue(type, out string? keyword)) return keyword;
        if (type.IsGenericParameter) return type.Name;
        if (Nullable.GetUnderlyingType(type) is { } underlying) return Name(underlying) + "?";
        string name = type.IsNested ? $"{Name(type.DeclaringType!)}.{type.Name}" : type.Name;
        if (!type.IsGenericType) return name;
        int tick = name.IndexOf('`', StringComparison.Ordinal);
        return $"{(tick < 0 ? name : name[..tick])}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>";
    }

    /// <summary>The mark of a reference that may be null.</summary>
    private static string Question(NullabilityInfo info) => !info.Type.IsValueType && info.ReadState == NullabilityState.Nullable ? "?" : "";

    private static bool IsVisible(bool isPublic, bool isProtected) => isPublic || isProtected;
}
