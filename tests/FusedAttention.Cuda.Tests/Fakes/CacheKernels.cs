using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Tests.Fakes;

/// <summary>What the kernel does that writes rows into a cache, by its parameter: so that a cache's contents can be looked at on a device that computes nothing.</summary>
internal static unsafe class CacheKernels
{
    public static void Run(KernelFunction function, uint tokens, byte[] parameters)
    {
        AttentionElementType[] types = Elements.Wide;
        foreach (AttentionElementType source in types)
            foreach (AttentionElementType stored in types)
                if (function == CachePlan.Function(source, stored)) Append(source, stored, tokens, parameters);
    }

    private static void Append(AttentionElementType source, AttentionElementType stored, uint tokens, byte[] parameters)
    {
        CacheBlock block = MemoryMarshal.Read<CacheBlock>(parameters);
        CacheParameters cache = block.Cache;
        fixed (byte* first = parameters)
        {
            long* slots = (long*)(block.Slots == 0 ? first + CacheBlock.SlotsBehindBlock : RecordingRuntime.At(block.Slots));
            for (uint token = 0; token < tokens; token++)
            {
                for (int head = 0; head < cache.Heads; head++)
                {
                    Convert(block.Keys, (token * cache.KeyTokenStride) + (head * cache.KeyHeadStride), block.KeyCache, ((slots[token] * cache.Heads) + head) * cache.KeyDim, cache.KeyDim);
                    Convert(block.Values, (token * cache.ValueTokenStride) + (head * cache.ValueHeadStride), block.ValueCache, ((slots[token] * cache.Heads) + head) * cache.ValueDim, cache.ValueDim);
                }
            }
        }

        void Convert(ulong from, long fromElement, ulong to, long toElement, int count) => ElementConversion.Convert(
            source, RecordingRuntime.At(from) + (fromElement * source.Size()), stored, RecordingRuntime.At(to) + (toElement * stored.Size()), count);
    }
}
