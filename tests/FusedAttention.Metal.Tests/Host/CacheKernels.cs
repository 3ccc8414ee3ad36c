using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>What <c>cache.metal</c> does, by its launches, for 4-byte elements: so that a cache's contents can be looked at on a device that computes nothing.</summary>
internal static unsafe class CacheKernels
{
    public static void Run(KernelLaunch launch)
    {
        if (launch.Function.Family != KernelFamily.Cache) return;
        CacheParameters parameters = MemoryMarshal.Read<CacheParameters>(launch.Parameters.AsSpan());
        if (launch.Function.Name is "append") Append(launch, parameters);
        else Copy(launch, parameters);
    }

    private static void Append(KernelLaunch launch, in CacheParameters parameters)
    {
        for (uint token = 0; token < launch.Threadgroups.X; token++)
        {
            long slot = ((long*)RecordingRuntime.At(launch, 4))[token];
            for (int part = 0; part < 2; part++)
            {
                int dim = part == 0 ? parameters.KeyDim : parameters.ValueDim;
                (long tokenStride, long headStride) = part == 0 ? (parameters.KeyTokenStride, parameters.KeyHeadStride) : (parameters.ValueTokenStride, parameters.ValueHeadStride);
                for (int head = 0; head < parameters.Heads; head++)
                {
                    for (int d = 0; d < dim; d++)
                        ((uint*)RecordingRuntime.At(launch, 2 + part))[(((slot * parameters.Heads) + head) * dim) + d] = ((uint*)RecordingRuntime.At(launch, part))[(token * tokenStride) + (head * headStride) + d];
                }
            }
        }
    }

    private static void Copy(KernelLaunch launch, in CacheParameters parameters)
    {
        for (uint i = 0; i < launch.Threadgroups.X; i++)
        {
            SlotCopy copy = ((SlotCopy*)RecordingRuntime.At(launch, 4))[i];
            for (int part = 0; part < 2; part++)
            {
                long elements = (long)parameters.Heads * (part == 0 ? parameters.KeyDim : parameters.ValueDim);
                uint* cache = (uint*)RecordingRuntime.At(launch, 2 + part);
                Buffer.MemoryCopy(cache + (copy.From * elements), cache + (copy.To * elements), copy.Slots * elements * 4, copy.Slots * elements * 4);
            }
        }
    }
}
