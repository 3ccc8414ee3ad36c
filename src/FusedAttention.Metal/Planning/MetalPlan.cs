using System.Collections.Immutable;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>What a call does on a device: which kernels over which work items. Made without running or compiling anything.</summary>
internal sealed class MetalPlan
{
    private readonly KernelChoice _choice;
    private readonly CallItems _items;
    private readonly ScratchLayout _scratch;

    private MetalPlan(KernelChoice choice, CallItems items, ScratchLayout scratch) => (_choice, _items, _scratch) = (choice, items, scratch);

    /// <summary>The kernels: <c>prefill</c>, <c>decode</c>, <c>plain</c>, joined by <c>+</c>; <c>none</c> for an empty call.</summary>
    public required string Kernel { get; init; }

    /// <summary>Every function the plan launches, for compiling ahead.</summary>
    public required ImmutableArray<KernelFunction> Functions { get; init; }

    /// <summary>Bytes of tables and partial results.</summary>
    public required long ScratchBytes { get; init; }

    /// <summary>Threadgroups, all launches together.</summary>
    public required long WorkItems { get; init; }

    /// <summary>Tiles, splits and the reasons for them, one line each.</summary>
    public required string Details { get; init; }

    /// <param name="problem">The call; its pointers are not looked at.</param>
    /// <param name="device">Where it will run.</param>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions; the message has them.</exception>
    public static MetalPlan Of(AttentionProblem problem, MetalDeviceDescription device) => Of(problem, device, forced: null);

    /// <param name="problem">The call; its pointers are not looked at.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="forced">The only kernel to use; null for the choice that calls get.</param>
    internal static MetalPlan Of(AttentionProblem problem, MetalDeviceDescription device, KernelFamily? forced)
    {
        KernelChoice choice = KernelChoice.Of(problem, device, forced);
        CallItems items = CallItems.Of(problem, choice);
        ScratchLayout scratch = ScratchLayout.Of(problem, items);
        KernelFamily[] families = [.. items.Lists.Keys.Order()];
        return new MetalPlan(choice, items, scratch)
        {
            Kernel = families.Length == 0 ? "none" : string.Join(" + ", families.OrderBy(f => f != KernelFamily.Prefill).Select(KernelLibrary.NameOf)),
            Functions = FunctionsOf(problem, choice, items, families),
            ScratchBytes = families.Length == 0 ? 0 : scratch.Bytes,
            WorkItems = (items.Lists.Values.Sum(list => (long)list.Count) + items.Merges.Count) * problem.KeyValueHeads,
            Details = PlanDetails.Of(problem, device, choice, items),
        };
    }

    /// <summary>
    /// The launches of the plan on given memory, grouped into command buffers of bounded work: each inner array is one submission. Writes the tables into transient memory.
    /// </summary>
    public ImmutableArray<ImmutableArray<KernelLaunch>> Bind(AttentionProblem problem, CallMemory memory, ITransientMemory transient)
    {
        if (_items.Lists.Count == 0) return [];
        var binding = new CallBinding(problem, memory, _items, _scratch, transient.Take(_scratch.Bytes));
        var submissions = ImmutableArray.CreateBuilder<ImmutableArray<KernelLaunch>>();
        var launches = ImmutableArray.CreateBuilder<KernelLaunch>();
        double spent = 0;
        foreach ((KernelFamily family, WorkList list) in _items.Lists.OrderBy(pair => pair.Key != KernelFamily.Prefill))
        {
            Add(list, (first, end) => binding.Main(family, first, end));
        }

        Add(_items.Merges, (first, end) => binding.MergeSplits(_choice.Few, first, end));
        submissions.Add(launches.DrainToImmutable());
        return submissions.DrainToImmutable();

        void Add(WorkList list, Func<int, int, KernelLaunch> launch)
        {
            foreach ((int first, int end, bool beginsBuffer) in list.Cut(WorkList.BufferBudget, ref spent))
            {
                if (beginsBuffer) submissions.Add(launches.DrainToImmutable());
                launches.Add(launch(first, end));
            }
        }
    }

    private static ImmutableArray<KernelFunction> FunctionsOf(AttentionProblem problem, KernelChoice choice, CallItems items, KernelFamily[] families)
    {
        ImmutableArray<FunctionConstant> constants = FunctionConstants.Of(problem, Alignment.Allows(problem));
        ImmutableArray<KernelFunction> functions = [.. families.Select(family => KernelLibrary.Main(family, problem, constants))];
        return items.Merges.Count == 0 ? functions : functions.Add(KernelLibrary.MergeSplits(choice.Few, problem, constants));
    }
}
