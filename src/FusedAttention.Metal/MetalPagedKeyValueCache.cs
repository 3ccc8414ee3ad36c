namespace FusedAttention;

/// <summary>x</summary>
/// <typeparam name="T">x</typeparam>
public sealed class MetalPagedKeyValueCache<T>
{
}
