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
        AttentionElementType[] codes = [AttentionElementType.Int8, AttentionElementType.Float8E4M3], stores = [.. Elements.Wide, .. codes];
        foreach (AttentionElementType stored in stores)
        {
            foreach (AttentionElementType source in (AttentionElementType[])[.. Elements.Wide, .. codes.Where(type => type == stored)])
                if (function == CachePlan.Function(source, stored)) Append(source, stored, tokens, parameters);
        }
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
                    long from = (token * cache.Heads) + head, to = (slots[token] * cache.Heads) + head;
                    Write(block.Keys, (token * cache.KeyTokenStride) + (head * cache.KeyHeadStride), block.KeyScales, from, block.KeyCache, block.KeyScaleCache, to, cache.KeyDim);
                    Write(block.Values, (token * cache.ValueTokenStride) + (head * cache.ValueHeadStride), block.ValueScales, from, block.ValueCache, block.ValueScaleCache, to, cache.ValueDim);
                }
            }
        }

        void Write(ulong rows, long firstElement, ulong newScales, long newRow, ulong cacheRows, ulong cacheScales, long row, int dim)
        {
            byte* from = RecordingRuntime.At(rows) + (firstElement * source.Size()), to = RecordingRuntime.At(cacheRows) + (row * dim * stored.Size());
            if (!stored.IsEightBit())
            {
                ElementConversion.Convert(source, from, stored, to, dim);
                return;
            }

            float* scale = (float*)RecordingRuntime.At(cacheScales) + row;
            if (source == stored)
            {
                Buffer.MemoryCopy(from, to, dim, dim);
                *scale = ((float*)RecordingRuntime.At(newScales))[newRow];
                return;
            }

            float[] numbers = new float[dim];
            fixed (float* first = numbers)
            {
                ElementConversion.Convert(source, from, AttentionElementType.Float32, first, dim);
                Quantization.Row(stored, first, dim, to, scale);
            }
        }
    }
}
