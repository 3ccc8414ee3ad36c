using System.Globalization;
using System.Text;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Tests;

/// <summary>A plan with its launches and tables, as text.</summary>
internal static unsafe class PlanText
{
    public static string Of(AttentionProblem problem, MetalDeviceDescription device)
    {
        var plan = MetalPlan.Of(problem, device);
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"{plan.Kernel}: {plan.WorkItems} threadgroups, {plan.ScratchBytes} bytes of tables and partial results\n{plan.Details}\n");
        using var runtime = new QuietRuntime();
        using DeviceMemory tensors = runtime.Allocate(16), scratch = runtime.Allocate(Math.Max(16, plan.ScratchBytes));
        var place = new MemoryPlace(tensors, 0);
        LaunchList launches = plan.Bind(
            problem,
            new(place, place, place, place, problem.HasMask ? place : null, problem.HasBias ? place : null, problem.HasLogSumExp ? place : null),
            new Whole(new(scratch, 0)),
            []);
        for (int i = 0; i < launches.Count; i++)
        {
            text.Append(CultureInfo.InvariantCulture, $"\ncommand buffer {i}\n");
            foreach (KernelLaunch launch in launches[i]) Append(text, launch, tensors);
        }

        return text.ToString();
    }

    private static void Append(StringBuilder text, KernelLaunch launch, DeviceMemory tensors)
    {
        text.Append(CultureInfo.InvariantCulture, $"  {launch.Function.Name} of {launch.Function.LibraryKey}\n");
        text.Append(CultureInfo.InvariantCulture, $"    {string.Join(' ', launch.Function.Constants.Select(static constant => $"{constant.Name}={constant.Bits}"))}\n");
        text.Append(CultureInfo.InvariantCulture, $"    {launch.Threadgroups.X} x {launch.Threadgroups.Y} threadgroups of {launch.ThreadsPerThreadgroup.X}, {launch.Parameters.Length} bytes of parameters in {launch.ParameterIndex}\n");
        text.Append(CultureInfo.InvariantCulture, $"    buffers {string.Join(' ', launch.Buffers.Select(buffer => $"{buffer.Index}:{(buffer.Memory == tensors ? "tensor" : buffer.Offset)}{(buffer.IsWritten ? "*" : "")}"))}\n");
        BufferBinding items = launch.Buffers.Single(static buffer => buffer.Index == BufferSlot.Items);
        foreach (WorkItem item in new ReadOnlySpan<WorkItem>(items.Memory.Pointer + items.Offset, (int)launch.Threadgroups.X))
        {
            text.Append(CultureInfo.InvariantCulture, $"    sequence {item.Sequence} rows {item.FirstRow}..{item.EndRow} keys {item.FirstKey}..{item.EndKey}{(item.Partial < 0 ? "" : $" partial {item.Partial}")}\n");
        }
    }

    private sealed class Whole(MemoryPlace place) : ITransientMemory
    {
        public MemoryPlace Take(long bytes) => place;
    }
}
