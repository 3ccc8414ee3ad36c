using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>What the kernels' text and the host must agree on: structs field by field, slots by name, and the rules of docs/metal.md.</summary>
public sealed partial class KernelTextTests
{
    private static readonly Assembly Metal = typeof(KernelFunction).Assembly;

    public static TheoryData<string> Files() => [.. Metal.GetManifestResourceNames().Where(name => name.EndsWith(".metal", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Files))]
    public void Texts_keep_to_the_rules(string file) => Assert.Empty(TextLint.Check(file, KernelSource.File(file)));

    /// <summary>Those of the drop-in do not: their hosts may launch more than they need.</summary>
    [Theory]
    [MemberData(nameof(Files))]
    public void Kernels_say_how_many_threads_they_have(string file)
    {
        string text = TextLint.WithoutComments(KernelSource.File(file));
        int kernels = KernelHead().Count(text), bounded = BoundedHead().Count(text);
        Assert.Equal(file.StartsWith("drop_in", StringComparison.Ordinal) ? 0 : kernels, bounded);
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void Buffer_slots_are_those_of_the_host(string file)
    {
        foreach (KernelSignature kernel in KernelText.ParseKernels(TextLint.WithoutComments(KernelSource.File(file))))
        {
            bool isAttention = kernel.Arguments.Any(argument => argument.Type.Contains(nameof(AttentionParameters), StringComparison.Ordinal));
            foreach (KernelArgument argument in isAttention ? kernel.Buffers : [])
            {
                FieldInfo? slot = typeof(BufferSlot).GetField(PascalCase(argument.Name), BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic);
                Assert.True(slot is not null, $"{file}: kernel {kernel.Name}: BufferSlot has no {PascalCase(argument.Name)}");
                Assert.True((int)slot.GetRawConstantValue()! == argument.Slot, $"{file}: kernel {kernel.Name}: {argument.Name} has slot {argument.Slot}, BufferSlot.{slot.Name} is {slot.GetRawConstantValue()}");
            }
        }
    }

    [Fact]
    public void Structs_are_laid_out_alike()
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        string text = KernelSource.File("parameters.metal");
        string[] names = [.. StructName().Matches(TextLint.WithoutComments(text)).Select(match => match.Groups["name"].Value)];
        Assert.NotEmpty(names);
        Dictionary<string, (RecordField[] Fields, int Size)> records = RecordLayouts.Of(KernelSource.File(KernelSource.Includes) + KernelSource.File("common.metal") + text, names);
        foreach (string name in names)
        {
            Type host = typeof(AttentionParameters).Assembly.GetType($"{typeof(AttentionParameters).Namespace}.{name}") ?? throw new InvalidOperationException($"The host has no struct {name}.");
            string[] expected = FieldsOf(host);
            string[] actual = [.. records[name].Fields.Select(field => $"{field.Type} {field.Name} at {field.Offset}"), $"{records[name].Size} bytes"];
            Assert.Equal(expected, actual);
            Assert.True(records[name].Size < LaunchCheck.ParameterLimit);
        }
    }

    /// <summary>What is in the text of calls with keys of 8 bits alone: the scales' slots, and where scales lie, behind the fields of all calls.</summary>
    [Fact]
    public void Scales_are_where_the_host_has_them()
    {
        KernelFunction function = KernelLibrary.Main(AttentionKernel.Plain, new(AttentionElementType.Float16, AttentionElementType.Int8, 64, 64, CallFeatures.KeyScale, 0, default));
        string text = KernelSource.Compose(function);
        KernelSignature kernel = KernelText.ParseKernels(TextLint.WithoutComments(text)).Single(static kernel => kernel.Name is "plain");
        Assert.Equal(
            [("key_scale", BufferSlot.KeyScale), ("value_scale", BufferSlot.ValueScale)],
            kernel.Buffers.Where(static argument => argument.Name.EndsWith("_scale", StringComparison.Ordinal)).Select(static argument => (argument.Name, argument.Slot!.Value)));
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        Dictionary<string, (RecordField[] Fields, int Size)> records = RecordLayouts.Of(string.Concat(function.Definitions.Select(static definition => $"#define {definition.Name} {definition.Value}\n")) + text, [nameof(ScalePlaces), nameof(AttentionParameters)]);
        string[] actual = [.. records[nameof(ScalePlaces)].Fields.Select(static field => $"{field.Type} {field.Name} at {field.Offset}"), $"{records[nameof(ScalePlaces)].Size} bytes"];
        Assert.Equal(FieldsOf(typeof(ScalePlaces)), actual);
        int bytes = Marshal.SizeOf<AttentionParameters>(), places = Marshal.SizeOf<ScalePlaces>();
        int[] strides = [.. records[nameof(AttentionParameters)].Fields.Where(static field => field.Name is "head_stride").Select(static field => field.Offset)], expected = [bytes, bytes + places];
        Assert.Equal(expected.Select(static start => start + (int)Marshal.OffsetOf<ScalePlaces>(nameof(ScalePlaces.HeadStride))), strides);
        Assert.Equal(bytes + (2 * places), records[nameof(AttentionParameters)].Size);
    }

    /// <summary>A struct of the host as the kernels' text has it.</summary>
    private static string[] FieldsOf(Type host) => [.. host.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic)
        .Select(field => $"{MetalName(field.FieldType)} {SnakeCase(field.Name)} at {Marshal.OffsetOf(host, field.Name)}"), $"{Marshal.SizeOf(host)} bytes"];

    private static string MetalName(Type type) => type == typeof(long) ? "long" : type == typeof(int) ? "int" : type == typeof(uint) ? "uint" : type == typeof(ulong) ? "ulong" : type == typeof(float) ? "float" : type.Name;

    private static string PascalCase(string name) => string.Concat(name.Split('_').Select(part => char.ToUpperInvariant(part[0]) + part[1..]));

    private static string SnakeCase(string name) => Capital().Replace(name, "_$0").TrimStart('_').ToLowerInvariant();

    [GeneratedRegex(@"^struct (?<name>\w+)", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex StructName();

    [GeneratedRegex(@"\bkernel void ", RegexOptions.CultureInvariant, 5000)]
    private static partial Regex KernelHead();

    [GeneratedRegex(@"^THREADGROUP_OF\([^)]+\) kernel void ", RegexOptions.Multiline | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex BoundedHead();

    [GeneratedRegex("[A-Z]", RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Capital();
}
