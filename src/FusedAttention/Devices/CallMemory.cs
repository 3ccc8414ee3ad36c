namespace FusedAttention.Devices;

/// <summary>Where the tensors of a call lie; those it does not have are null.</summary>
internal readonly record struct CallMemory(
    MemoryPlace Query, MemoryPlace Key, MemoryPlace Value, MemoryPlace Output, MemoryPlace? Mask = null, MemoryPlace? Bias = null, MemoryPlace? LogSumExp = null,
    MemoryPlace? KeyScale = null, MemoryPlace? ValueScale = null);
