using FusedAttention.Cuda.Emulation.Programs;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Emulation.Runtime;

/// <summary>What the driver refuses to launch.</summary>
internal static class LaunchChecks
{
    public static void Check(KernelProgram program, KernelFunction function, (int X, int Y, int Z) grid, int parameterBytes, CudaDeviceDescription device)
    {
        string? failure =
            grid.X < 1 || grid.Y is < 1 or > 65535 || grid.Z is < 1 or > 65535 ? $"a grid of {grid} blocks"
            : function.Threads is < 1 or > 1024 ? $"{function.Threads} threads of a block"
            : program.Text.RequiredThreads != 0 && program.Text.RequiredThreads != function.Threads ? $"{function.Threads} threads, where the text requires {program.Text.RequiredThreads}"
            : program.Text.MostThreads != 0 && program.Text.MostThreads < function.Threads ? $"{function.Threads} threads, where the text allows {program.Text.MostThreads}"
            : program.SharedBytes + function.SharedBytes > device.MaxSharedMemory ? $"{program.SharedBytes + function.SharedBytes} bytes of shared memory, of {device.MaxSharedMemory}"
            : parameterBytes < program.Text.ParameterBytes ? $"{parameterBytes} bytes of parameters, where the driver reads the {program.Text.ParameterBytes} of the text"
            : program.Text.Target.StartsWith("sm_90a", StringComparison.Ordinal) && device.Major != 9 ? $"code of sm_90a on compute capability {device.Major}.{device.Minor}"
            : null;
        if (failure is not null) throw new CudaException($"Kernel {function.Label} cannot be launched: {failure}.");
    }
}
