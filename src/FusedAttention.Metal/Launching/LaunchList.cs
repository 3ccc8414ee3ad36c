using System.Runtime.InteropServices;

namespace FusedAttention.Metal.Launching;

/// <summary>
/// The launches of one call, in order, cut into command buffers; all of them have one parameter block. Reused between calls with everything in it, so that a call allocates nothing in steady state.
/// </summary>
/// <param name="parameterIndex">The slot of the parameter block.</param>
/// <param name="parameterBytes">Its length, but for functions.</param>
internal sealed class LaunchList(int parameterIndex, int parameterBytes)
{
    /// <summary>Buffers that a launch has at most.</summary>
    private const int MostBuffers = 31;

    /// <summary>By the number of buffers, in which kernels differ, and which is the length of an array.</summary>
    private readonly List<KernelLaunch>[] _made = [.. Enumerable.Range(0, MostBuffers + 1).Select(static _ => new List<KernelLaunch>())];
    private readonly int[] _taken = new int[MostBuffers + 1];
    private readonly List<KernelLaunch> _launches = [];
    private readonly List<int> _starts = [];

    /// <summary>Parameter blocks of other lengths that there were.</summary>
    private readonly List<byte[]> _blocks = [];

    /// <summary>The parameter block of all launches.</summary>
    public byte[] Parameters { get; private set; } = new byte[parameterBytes];

    /// <summary>How many command buffers there are.</summary>
    public int Count => _starts.Count;

    /// <summary>The launches of a command buffer; at least one.</summary>
    public ReadOnlySpan<KernelLaunch> this[int index]
    {
        get
        {
            int end = index + 1 < _starts.Count ? _starts[index + 1] : _launches.Count;
            return CollectionsMarshal.AsSpan(_launches)[_starts[index]..end];
        }
    }

    /// <summary>Forgets the launches, and what they hold of memory.</summary>
    public void Clear()
    {
        foreach (KernelLaunch launch in _launches) Array.Clear(launch.Buffers);
        Array.Clear(_taken);
        _launches.Clear();
        _starts.Clear();
    }

    /// <summary>Makes the parameter block of the launches that follow longer than that of others, by what functions have captured; while there are none.</summary>
    /// <param name="bytes">By how much.</param>
    public void Extend(int bytes)
    {
        int length = parameterBytes + bytes;
        if (Parameters.Length == length) return;
        _blocks.Add(Parameters);
        for (int i = 0; i < _blocks.Count; i++)
        {
            if (_blocks[i].Length != length) continue;
            Parameters = _blocks[i];
            _blocks.RemoveAt(i);
            return;
        }

        Parameters = new byte[length];
    }

    /// <summary>A launch behind those that there are.</summary>
    /// <returns>Its buffers, to be filled.</returns>
    /// <param name="function">The kernel.</param>
    /// <param name="buffers">How many buffers it has.</param>
    /// <param name="threadgroups">The grid.</param>
    /// <param name="threads">Threads of a threadgroup.</param>
    /// <param name="cost">See <see cref="KernelLaunch.Cost"/>.</param>
    /// <param name="beginsCommandBuffer">Whether the launch is the first one of a command buffer.</param>
    public Span<BufferBinding> Add(KernelFunction function, int buffers, GridSize threadgroups, GridSize threads, double cost, bool beginsCommandBuffer)
    {
        List<KernelLaunch> made = _made[buffers];
        if (_taken[buffers] == made.Count) made.Add(new(function, new BufferBinding[buffers], parameterIndex, Parameters, threadgroups, threads));
        KernelLaunch launch = made[_taken[buffers]++];
        (launch.Function, launch.Parameters, launch.Threadgroups, launch.ThreadsPerThreadgroup, launch.Cost) = (function, Parameters, threadgroups, threads, cost);
        if (beginsCommandBuffer || _launches.Count == 0) _starts.Add(_launches.Count);
        _launches.Add(launch);
        return launch.Buffers;
    }
}
