namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Runs the blocks of a launch one after the other. A block that has run long without ending lets others begin beside it, in case that it waits for them.</summary>
internal static class GridRunner
{
    /// <summary>Instructions of a block until others may begin beside it.</summary>
    public const long Turn = 20_000_000;

    /// <param name="launch">What is run.</param>
    /// <param name="most">Instructions after which a launch counts as one that never ends.</param>
    /// <returns>Instructions of all warps.</returns>
    /// <exception cref="CudaEmulationException">The kernel did what no kernel may, or never ends.</exception>
    public static long Run(LaunchState launch, long most)
    {
        (int x, int y, int z) = launch.Grid;
        int[] order = launch.Order.Of(checked(x * y * z), new Random(launch.Order.Seed));
        var resident = new List<BlockState>();
        var idle = new Stack<BlockState>();
        long executed = 0;
        try
        {
            for (int next = 0; next < order.Length || resident.Count > 0;)
            {
                if (next < order.Length)
                {
                    BlockState block = idle.TryPop(out BlockState? used) ? used : new(launch);
                    resident.Add(block);
                    int number = order[next++];
                    block.Begin((number % x, number / x % y, number / x / y), number);
                }

                for (int b = resident.Count - 1; b >= 0; b--)
                {
                    BlockState block = resident[b];
                    long before = block.Executed;
                    block.Run(Math.Min(Turn, most));
                    executed += block.Executed - before;
                    if (!block.HasEnded) continue;
                    resident.RemoveAt(b);
                    idle.Push(block);
                }

                if (executed > most && resident.Count > 0)
                    throw new CudaEmulationException($"{launch.Program.Label} has run {executed} instructions and does not end. {string.Join(' ', resident.Take(4).Select(static block => $"Block {block.Index}: {block}."))}");
            }

            return executed;
        }
        finally
        {
            foreach (BlockState block in resident.Concat(idle)) block.Dispose();
        }
    }
}
