namespace FusedAttention.Devices;

/// <summary>A place in device memory: where a tensor's first element lies.</summary>
/// <param name="Memory">The allocation.</param>
/// <param name="Offset">In bytes.</param>
internal readonly record struct MemoryPlace(DeviceMemory Memory, long Offset);

/// <summary>Memory for the tables and partial results of one call, given back when its submission has ended.</summary>
internal interface ITransientMemory
{
    /// <summary>At least <paramref name="bytes"/> bytes; the offset is a multiple of 256.</summary>
    MemoryPlace Take(long bytes);
}
