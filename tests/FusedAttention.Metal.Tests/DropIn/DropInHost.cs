using System.Runtime.InteropServices;
using FusedAttention.Metal.DropIn;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Tests.DropIn;

/// <summary>FusedAttentionParams as the originals' hosts have it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal record struct FusedParams(uint Heads, uint KeyValueHeads, uint HeadDim, uint SeqLen, uint KvLen, float Scale, uint Causal, uint UseAlibi);

/// <summary>PagedAttentionParams as the originals' hosts have it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal record struct PagedParams(uint Heads, uint KeyValueHeads, uint HeadDim, uint BlockSize, uint NumBlocks, float Scale, uint Causal, uint Padding);

/// <summary>
/// A host that was written for the originals: it knows their names, slots, structures and grid, and nothing of this library. Buffers are exactly as long as they have to be, with guards around them, and outputs begin as
/// a number that no test expects.
/// </summary>
internal sealed class DropInHost : IDisposable
{
    private const float Untouched = 12345;

    private static readonly Dictionary<string, string> Texts = new(StringComparer.Ordinal);

    private readonly EmulatedRuntime _runtime;

    public DropInHost(EmulatorFlavour flavour = EmulatorFlavour.Plain, params int[] headDims)
    {
        Text = TextOf(headDims);
        MetalProblems.Start(flavour).Dispose();
        _runtime = new(flavour) { Source = _ => Text };
    }

    public string Text { get; }

    /// <summary>Of a threadgroup.</summary>
    public uint Threads { get; init; } = 256;

    /// <summary>Rounds the number of query tiles down, as the originals' comment has it.</summary>
    public bool RoundsDown { get; init; }

    /// <summary>Threadgroups of the grid beyond those that there is work for.</summary>
    public uint Spare { get; init; }

    public static string TextOf(params int[] headDims)
    {
        int[] dims = headDims.Length == 0 ? [.. DropInSource.DefaultHeadDims] : headDims;
        lock (Texts)
        {
            string key = string.Join(',', dims);
            return Texts.TryGetValue(key, out string? text) ? text : Texts[key] = DropInSource.Compose(dims);
        }
    }

    public EmulatorLibrary Library => EmulatorBuild.Get(Text, EmulatorFlavour.Plain);

    /// <summary>A dense problem with one of the three kernels for those; the batch is that of the problem.</summary>
    public CallResult Dense(string kernel, Problem problem, uint causal, float? scale = null)
    {
        int batch = problem.Sequences, queries = problem.QueryLengths[0], keys = problem.KeyLengths[0];
        var parameters = new FusedParams(
            (uint)problem.Heads, (uint)problem.KeyValueHeads, (uint)problem.KeyDim, (uint)queries, (uint)keys, scale ?? problem.Scale, causal, problem.Options.AlibiSlopes.IsDefaultOrEmpty ? 0u : 1u);
        using EmulatedMemory query = Buffer(problem.Query), key = Buffer(problem.Key), value = Buffer(problem.Value), output = Output(problem), batchSize = Buffer([(uint)batch]);
        List<BufferBinding> buffers = [In(0, query), In(1, key), In(2, value), new(3, output, 0, IsWritten: true)];
        if (kernel.EndsWith("batched", StringComparison.Ordinal)) buffers.Add(In(5, batchSize));
        uint tiles = (uint)(RoundsDown ? queries / 64 : (queries + 63) / 64);
        Launch(kernel, buffers, 4, MemoryMarshal.AsBytes<FusedParams>([parameters]), new((uint)batch + Spare, (uint)problem.Heads + Spare, tiles + Spare));
        return Read(output, problem);
    }

    /// <summary>A problem of sequences with one query each, in a cache of blocks.</summary>
    /// <param name="problem">The keys that each query sees.</param>
    /// <param name="contexts">What the host believes of the lengths; beyond the problem's keys the cache has NaN.</param>
    /// <param name="causal">The mode.</param>
    /// <param name="tableStride">Entries from one sequence's table to the next.</param>
    /// <param name="passesStride">Whether that is said in the padding, or as the number of blocks.</param>
    /// <param name="missing">Entries of this block index and beyond are no blocks.</param>
    /// <param name="saysMore">Is added to every length.</param>
    public CallResult Paged(Problem problem, int[] contexts, uint causal = 0, uint tableStride = 0, bool passesStride = false, int missing = int.MaxValue, int saysMore = 0)
    {
        (int size, int row) = (problem.BlockSize, problem.KeyValueHeads * problem.KeyDim);
        int[] blocks = [.. contexts.Select(context => (context + size - 1) / size)];
        if (tableStride == 0) tableStride = (uint)Math.Max(1, blocks.Max());
        uint pool = (uint)blocks.Sum() + 1;
        uint[] tables = new uint[contexts.Length * tableStride];
        Array.Fill(tables, uint.MaxValue / 2);
        var keys = new float[pool * size * row];
        var values = new float[pool * size * row];
        Array.Fill(keys, float.NaN);
        Array.Fill(values, float.NaN);
        uint next = pool;
        for (int s = 0; s < contexts.Length; s++)
        {
            for (int block = 0; block < blocks[s]; block++)
            {
                uint id = --next;
                tables[(s * tableStride) + block] = block < missing ? id : pool + 3;
                int from = block * size * row, count = Math.Min(size * row, problem.Key[s].Length - from);
                if (count <= 0) continue;
                Array.Copy(problem.Key[s], from, keys, id * size * row, count);
                Array.Copy(problem.Value[s], from, values, id * size * row, count);
            }
        }

        var parameters = new PagedParams(
            (uint)problem.Heads, (uint)problem.KeyValueHeads, (uint)problem.KeyDim, (uint)size, passesStride ? pool : tableStride, problem.Scale, causal, passesStride ? tableStride : 0);
        using EmulatedMemory query = Buffer(problem.Query), key = Buffer([keys]), value = Buffer([values]), table = Buffer(tables), lengths = Buffer([.. contexts.Select(context => (uint)(context + saysMore))]), output = Output(problem);
        Launch(
            "paged_attention", [In(0, query), In(1, key), In(2, value), In(3, table), In(4, lengths), new(5, output, 0, IsWritten: true)], 6, MemoryMarshal.AsBytes<PagedParams>([parameters]),
            new(1, (uint)problem.Heads + Spare, (uint)problem.Sequences));
        return Read(output, problem);
    }

    public void Dispose() => _runtime.Dispose();

    private void Launch(string kernel, List<BufferBinding> buffers, int parameterSlot, ReadOnlySpan<byte> parameters, GridSize grid)
    {
        var function = new KernelFunction(KernelFamily.Plain, kernel, [], []);
        _runtime.Wait(_runtime.Submit([new KernelLaunch(function, [.. buffers], parameterSlot, parameters.ToArray(), grid, new(Threads, 1, 1))]));
    }

    private static BufferBinding In(int slot, EmulatedMemory memory) => new(slot, memory, 0, IsWritten: false);

    private static EmulatedMemory Output(Problem problem) => Buffer([.. problem.Query.Select(query => Enumerable.Repeat(Untouched, query.Length).ToArray())]);

    /// <summary>Sequences one after the other, in 16 bits.</summary>
    private static EmulatedMemory Buffer(float[][] sequences) => Buffer<Half>([.. sequences.SelectMany(numbers => numbers).Select(x => (Half)x)]);

    private static EmulatedMemory Buffer<T>(T[] numbers)
        where T : unmanaged
    {
        EmulatedMemory memory = EmulatedMemory.Allocate(Math.Max(1, numbers.Length) * Marshal.SizeOf<T>());
        MemoryMarshal.AsBytes<T>(numbers).CopyTo(memory.Span);
        return memory;
    }

    private static CallResult Read(EmulatedMemory output, Problem problem)
    {
        Half[] all = MemoryMarshal.Cast<byte, Half>(output.Span).ToArray();
        int at = 0;
        return new([.. problem.Query.Select(query => all[at..(at += query.Length)].Select(x => (float)x).ToArray())], null);
    }
}
