using FusedAttention.Devices;

namespace FusedAttention.Cuda.Planning;

/// <summary>Where what a call has beside its tensors lies: addresses of the device.</summary>
/// <param name="Scratch"><see cref="CudaPlan.ScratchBytes"/> bytes, or 0 where that is 0: staged tables first, partial results behind them.</param>
/// <param name="Counters"><see cref="CudaPlan.Counters"/> words, all zero while no launch uses them.</param>
/// <param name="Status">The device's status word.</param>
internal readonly record struct CallPlaces(ulong Scratch, ulong Counters, ulong Status);
