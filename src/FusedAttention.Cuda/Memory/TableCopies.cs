using System.Runtime.CompilerServices;

namespace FusedAttention.Cuda.Memory;

/// <summary>
/// Tables of functions on a device: each is copied when a call first looks it up, and stays until nobody holds the table any more, on the host or in a graph that a stream has captured. Copies have a stream of their own, which
/// nobody captures; calls wait for them on the device.
/// </summary>
internal sealed class TableCopies(CudaDevice device) : IDisposable
{
    private readonly Lock _gate = new();

    /// <summary>By what tells tables apart. When that is collected, so is the copy, whose memory goes back as that of a tensor that nobody disposed.</summary>
    private readonly ConditionalWeakTable<object, TensorMemory> _copies = [];
    private CudaStream? _stream;

    /// <summary>A table's entries on the device, row by row.</summary>
    /// <exception cref="CudaException">The device does not give the memory.</exception>
    public TensorMemory Of(in ScoreTable table)
    {
        if (_copies.TryGetValue(table.Identity!, out TensorMemory? known)) return known;
        lock (_gate)
        {
            if (_copies.TryGetValue(table.Identity!, out known)) return known;
            TensorMemory copy = device.AllocateMemory((long)table.Rows * table.Columns * sizeof(float));
            try
            {
                Copy(table, copy);
            }
            catch
            {
                copy.Dispose();
                throw;
            }

            _copies.Add(table.Identity!, copy);
            return copy;
        }
    }

    /// <summary>The device ends.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            foreach (KeyValuePair<object, TensorMemory> entry in _copies) entry.Value.Dispose();
            _copies.Clear();
            _stream?.Dispose();
            _stream = null;
        }
    }

    private unsafe void Copy(in ScoreTable table, TensorMemory copy)
    {
        MemoryUse use = new(copy, IsWritten: true);
        copy.Hold();
        try
        {
            using Submission work = new(_stream ??= device.CreateStream(), new ReadOnlySpan<MemoryUse>(in use));
            work.Begin();
            work.CopyToDevice(new(copy.Memory, 0), table.First, (long)table.Rows * table.Columns * sizeof(float));
            work.End();
        }
        finally
        {
            copy.DangerousRelease();
        }
    }
}
