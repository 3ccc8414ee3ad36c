using FusedAttention.Devices;

namespace FusedAttention.Cuda.Memory;

/// <summary>
/// The <see cref="TableCopies{TMemory}"/> of a device, which graphs that a stream has captured hold too. Copies have a stream of their own, which nobody captures; calls wait for them on the device.
/// </summary>
internal sealed class FunctionTables : IDisposable
{
    private readonly CudaDevice _device;
    private readonly TableCopies<TensorMemory> _copies;
    private CudaStream? _stream;

    public FunctionTables(CudaDevice device) => (_device, _copies) = (device, new(Copy));

    /// <summary>A table's entries on the device, row by row.</summary>
    /// <exception cref="CudaException">The device does not give the memory.</exception>
    public TensorMemory Of(in ScoreTable table) => _copies.Of(table);

    /// <summary>The device ends.</summary>
    public void Dispose()
    {
        _copies.Dispose();
        _stream?.Dispose();
    }

    private unsafe TensorMemory Copy(ScoreTable table)
    {
        long bytes = (long)table.Rows * table.Columns * sizeof(float);
        TensorMemory copy = _device.AllocateMemory(bytes);
        MemoryUse use = new(copy, IsWritten: true);
        copy.Hold();
        try
        {
            using Submission work = new(_stream ??= _device.CreateStream(), new ReadOnlySpan<MemoryUse>(in use));
            work.Begin();
            work.CopyToDevice(new(copy.Memory, 0), table.First, bytes);
            work.End();
            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
        finally
        {
            copy.DangerousRelease();
        }
    }
}
