using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Emulation;

/// <summary>What Metal refuses, or does without a word and with garbage: bindings and constants that are not those of the kernel, and sizes beyond the limits.</summary>
internal static class LaunchCheck
{
    /// <summary>Bytes that <c>setBytes</c> must stay below.</summary>
    public const int ParameterLimit = 4096;

    /// <summary>Slots of a kernel.</summary>
    public const int SlotCount = 31;

    /// <summary>Bytes of threadgroup memory that every Apple GPU has.</summary>
    public const int ThreadgroupMemoryLimit = 32768;

    public static void Check(KernelLaunch launch, EmulatorLibrary library)
    {
        KernelSignature kernel = library.Kernel(launch.Function.Name);
        CheckSizes(launch, kernel, library);
        CheckConstants(launch.Function, library);
        CheckBindings(launch, kernel);
    }

    private static void CheckSizes(KernelLaunch launch, KernelSignature kernel, EmulatorLibrary library)
    {
        if (launch.Threadgroups.Count == 0 || launch.ThreadsPerThreadgroup.Count == 0) throw Error(kernel, $"an empty grid: {launch.Threadgroups} threadgroups of {launch.ThreadsPerThreadgroup}");
        ulong limit = (ulong)(kernel.MaxThreads ?? 1024);
        if (launch.ThreadsPerThreadgroup.Count > limit) throw Error(kernel, $"{launch.ThreadsPerThreadgroup.Count} threads per threadgroup, at most {limit} are allowed");
        if (launch.Parameters.Length >= ParameterLimit) throw Error(kernel, $"{launch.Parameters.Length} parameter bytes, setBytes takes less than {ParameterLimit}");
        int bytes = library.ThreadgroupBytes(kernel.Name);
        if (bytes > ThreadgroupMemoryLimit) throw Error(kernel, $"{bytes} bytes of threadgroup memory, there are {ThreadgroupMemoryLimit}");
    }

    private static void CheckConstants(KernelFunction function, EmulatorLibrary library)
    {
        foreach (FunctionConstant given in function.Constants)
        {
            DeclaredConstant declared = library.Constants.FirstOrDefault(constant => string.Equals(constant.Name, given.Name, StringComparison.Ordinal));
            if (declared.Name is null) throw new MetalEmulationException($"Kernel {function.Name}: the source declares no function constant {given.Name}.");
            string type = given.Type switch
            {
                FunctionConstantType.Float => "float",
                FunctionConstantType.Int => "int",
                FunctionConstantType.UInt => "uint",
                _ => "bool",
            };
            if (declared.Index != given.Index || !string.Equals(declared.Type, type, StringComparison.Ordinal))
            {
                throw new MetalEmulationException($"Kernel {function.Name}: function constant {given.Name} is {declared.Type} with index {declared.Index} in the source, {type} with index {given.Index} in the launch.");
            }
        }

        string[] missing = [.. library.Module.ConstantsOf(function.Name).Where(name => function.Constants.All(given => !string.Equals(given.Name, name, StringComparison.Ordinal)))];
        if (missing.Length > 0) throw new MetalEmulationException($"Kernel {function.Name}: no value for the function constants {string.Join(", ", missing)}.");
    }

    private static void CheckBindings(KernelLaunch launch, KernelSignature kernel)
    {
        var slots = new HashSet<int>();
        foreach (BufferBinding buffer in launch.Buffers)
        {
            if (buffer.Index is < 0 or >= SlotCount || !slots.Add(buffer.Index)) throw Error(kernel, $"slot {buffer.Index} is bound twice, or is none of {SlotCount}");
            if (buffer.Offset < 0 || buffer.Offset > buffer.Memory.Bytes) throw Error(kernel, $"slot {buffer.Index}: offset {buffer.Offset} of {buffer.Memory.Bytes} bytes");
        }

        if (launch.Parameters.Length > 0 && !slots.Add(launch.ParameterIndex)) throw Error(kernel, $"slot {launch.ParameterIndex} has a buffer and the parameters");
        foreach (KernelArgument argument in kernel.Buffers)
        {
            bool isBound = slots.Remove(argument.Slot!.Value);
            bool isThere = argument.Condition is null || launch.Function.Constants.First(constant => string.Equals(constant.Name, argument.Condition, StringComparison.Ordinal)).Bits != 0;
            if (isThere && !isBound) throw Error(kernel, $"nothing is bound to slot {argument.Slot} ({argument.Name})");
            if (isBound && !argument.IsReference && argument.Slot == launch.ParameterIndex && launch.Parameters.Length > 0)
            {
                throw Error(kernel, $"slot {argument.Slot} ({argument.Name}) is a pointer, and the launch has the parameter block there");
            }
        }

        if (slots.Count > 0) throw Error(kernel, $"the kernel has no argument for slot {string.Join(", ", slots.Order())}");
        foreach (BufferBinding buffer in launch.Buffers.Where(buffer => buffer.IsWritten))
        {
            KernelArgument argument = kernel.Buffers.First(argument => argument.Slot == buffer.Index);
            bool isConstant = argument.Type.Contains("constant", StringComparison.Ordinal) || argument.Type.StartsWith("const ", StringComparison.Ordinal) || argument.Type.Contains(" const ", StringComparison.Ordinal);
            if (isConstant) throw Error(kernel, $"slot {buffer.Index} ({argument.Name}) cannot be written, and the launch says that it is");
        }
    }

    private static MetalEmulationException Error(KernelSignature kernel, string problem) => new($"Kernel {kernel.Name}: {problem}.");
}
