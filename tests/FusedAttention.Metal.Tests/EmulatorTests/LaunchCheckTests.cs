using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests.EmulatorTests;

/// <summary>Launches that do not fit their kernel. Metal would run most of them, with garbage.</summary>
public sealed class LaunchCheckTests
{
    private const string Text = """
        FUNCTION_CONSTANT(bool, flag, 3);
        FUNCTION_CONSTANT(int, unused, 4);
        struct Numbers { long big; int small; int other; };
        [[max_total_threads_per_threadgroup(64)]] kernel void add(device const int* input [[buffer(2)]], device int* result [[buffer(3)]], constant Numbers& numbers [[buffer(14)]],
                                                                uint i [[thread_position_in_grid]]) {
            result[i] = input[i] + numbers.small + int(flag);
        }
        kernel void large(device int* result [[buffer(0)]]) {
            threadgroup int memory[8193];
            memory[result[1]] = 1;
            result[0] = memory[result[2]];
        }
        """;

    [Fact]
    public void The_right_launch_runs()
    {
        using TestKernel kernel = Right();
        Assert.Equal([8, 9, 10, 11], kernel.Run("add", threads: 4).Read<int>(3));
    }

    [Fact]
    public void A_wrong_slot_is_named()
    {
        using var kernel = new TestKernel(Text);
        kernel.Input(1, 1, 2, 3, 4).Output<int>(3, 4).Parameters(14, new byte[16]).Constant(3, "flag", FunctionConstantType.Bool, 1);
        kernel.Fails("add", 4, "nothing is bound to slot 2 (input)");
    }

    [Fact]
    public void A_slot_too_many_is_named()
    {
        using TestKernel kernel = Right();
        kernel.Input(7, 1).Fails("add", 4, "the kernel has no argument for slot 7");
    }

    [Fact]
    public void A_slot_that_is_bound_twice_is_named()
    {
        using TestKernel kernel = Right();
        kernel.Input(2, 1, 2, 3, 4).Fails("add", 4, "slot 2 is bound twice");
        using TestKernel parameters = Right();
        parameters.Parameters(3, new byte[16]).Fails("add", 4, "slot 3 has a buffer and the parameters");
    }

    [Fact]
    public void Parameters_go_to_a_reference_and_fill_it()
    {
        using var pointer = new TestKernel(Text);
        pointer.Input(14, 1, 2, 3, 4).Output<int>(3, 4).Parameters(2, new byte[16]).Constant(3, "flag", FunctionConstantType.Bool, 1);
        pointer.Fails("add", 4, "slot 2 (input) is a pointer");
        using TestKernel small = Right();
        small.Parameters(14, new byte[12]).Fails("add", 4, "slot 14 has 12 bytes, the kernel's argument 16");
        using TestKernel big = Right();
        big.Parameters(14, new byte[4096]).Fails("add", 4, "4096 parameter bytes");
    }

    [Fact]
    public void Function_constants_must_be_those_that_the_kernel_uses()
    {
        using var missing = new TestKernel(Text);
        missing.Input(2, 1, 2, 3, 4).Output<int>(3, 4).Parameters(14, new byte[16]).Fails("add", 4, "no value for the function constants flag.");
        using TestKernel unknown = Right();
        unknown.Constant(9, "flagg", FunctionConstantType.Bool, 1).Fails("add", 4, "declares no function constant flagg");
        using TestKernel index = Right();
        index.Constant(5, "unused", FunctionConstantType.Int, 1).Fails("add", 4, "unused is int with index 4 in the source, int with index 5 in the launch");
        using TestKernel type = Right();
        type.Constant(4, "unused", FunctionConstantType.UInt, 1).Fails("add", 4, "unused is int with index 4 in the source, uint");
    }

    [Fact]
    public void Sizes_have_limits()
    {
        using TestKernel threads = Right();
        threads.Fails("add", 65, "65 threads per threadgroup, at most 64");
        using TestKernel none = Right();
        none.Fails("add", 0, "an empty grid");
        using var large = new TestKernel(Text);
        large.Output<int>(0, 4).Fails("large", 1, "32784 bytes of threadgroup memory, there are 32768");
        using var many = new TestKernel(Text);
        many.Output<int>(0, 4).Fails("large", 1025, "1025 threads per threadgroup, at most 1024");
    }

    [Fact]
    public void Bindings_lie_in_their_memory_and_are_written_only_where_the_kernel_can()
    {
        using TestKernel offset = Right();
        offset.Rebind(2, buffer => buffer with { Offset = 17 }).Fails("add", 4, "slot 2: offset 17 of 16 bytes");
        using TestKernel written = Right();
        written.Rebind(2, buffer => buffer with { IsWritten = true }).Fails("add", 4, "slot 2 (input) cannot be written");
    }

    [Fact]
    public void Kernels_have_names()
    {
        using TestKernel kernel = Right();
        kernel.Fails("ad", 4, "no kernel ad; it has add, large");
    }

    private static TestKernel Right() => new TestKernel(Text).Input(2, 1, 2, 3, 4).Output<int>(3, 4)
        .Parameters(14, [.. BitConverter.GetBytes(0L), .. BitConverter.GetBytes(6), .. BitConverter.GetBytes(0)]).Constant(3, "flag", FunctionConstantType.Bool, 1);
}
