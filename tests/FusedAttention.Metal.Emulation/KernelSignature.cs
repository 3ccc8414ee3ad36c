namespace FusedAttention.Metal.Emulation;

/// <summary>A kernel as its text declares it.</summary>
internal sealed record KernelSignature(string Name, int? MaxThreads, KernelArgument[] Arguments)
{
    public IEnumerable<KernelArgument> Buffers => Arguments.Where(argument => argument.Slot is not null);
}

/// <summary>One argument of a kernel.</summary>
/// <param name="Name">As declared.</param>
/// <param name="Type">The text in front of the name.</param>
/// <param name="Slot">n of <c>[[buffer(n)]]</c>, or null.</param>
/// <param name="Condition">The function constant without which there is no such buffer, or null.</param>
/// <param name="BuiltIn">Another attribute, such as <c>thread_index_in_simdgroup</c>, or null.</param>
internal sealed record KernelArgument(string Name, string Type, int? Slot, string? Condition, string? BuiltIn)
{
    public bool IsReference => Type.EndsWith('&');
}

/// <summary>A function constant as the text declares it: <c>FUNCTION_CONSTANT(type, name, index)</c>.</summary>
internal readonly record struct DeclaredConstant(string Type, string Name, int Index);
