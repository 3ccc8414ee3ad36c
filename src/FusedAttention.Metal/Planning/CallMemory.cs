using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Planning;

/// <summary>A place in device memory: where a tensor's first element lies.</summary>
internal readonly record struct MemoryPlace(DeviceMemory Memory, long Offset);

/// <summary>Where the tensors of a call lie; those it does not have are null.</summary>
internal sealed record CallMemory(
    MemoryPlace Query, MemoryPlace Key, MemoryPlace Value, MemoryPlace Output, MemoryPlace? Mask = null, MemoryPlace? Bias = null, MemoryPlace? LogSumExp = null);

/// <summary>Memory for the tables and partial results of one call, given back when its submission has ended.</summary>
internal interface ITransientMemory
{
    /// <summary>At least <paramref name="bytes"/> bytes; the offset is a multiple of 256.</summary>
    MemoryPlace Take(long bytes);
}
