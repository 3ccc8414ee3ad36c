namespace FusedAttention.Cuda.Launching;

/// <summary>One launch, complete.</summary>
/// <param name="function">The kernel.</param>
/// <param name="x">Blocks of threads along x.</param>
/// <param name="y">Along y.</param>
/// <param name="z">Along z.</param>
/// <param name="parameters">The kernel's parameters, laid out as its text declares them; read until the launch is queued.</param>
internal readonly ref struct KernelLaunch(KernelFunction function, uint x, uint y, uint z, ReadOnlySpan<byte> parameters)
{
    public KernelFunction Function { get; } = function;

    public uint X { get; } = x;

    public uint Y { get; } = y;

    public uint Z { get; } = z;

    public ReadOnlySpan<byte> Parameters { get; } = parameters;
}
