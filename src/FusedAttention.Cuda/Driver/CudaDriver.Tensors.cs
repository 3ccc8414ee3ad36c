using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Driver;

/// <content>Tensors for the device's copy unit.</content>
internal sealed unsafe partial class CudaDriver
{
    /// <summary>CU_TENSOR_MAP_DATA_TYPE_FLOAT16, _BFLOAT16; CU_TENSOR_MAP_INTERLEAVE_NONE, _SWIZZLE_128B, _L2_PROMOTION_L2_256B, _FLOAT_OOB_FILL_NONE. Boxes have rows of
    /// 128 bytes, half of a row of D = 128: with 256 the second box finds its half in the cache, 1 % of a decode that reads 2 GB (H100).</summary>
    private const int TensorFloat16 = 6, TensorBFloat16 = 9, NoInterleave = 0, Swizzle128 = 3, Promotion256 = 3, FillZeros = 0;

    /// <summary>What the driver wants a map to begin at.</summary>
    private const int MapAlignment = 64;

    public void EncodeTensorMap(in TensorMapShape shape, Span<byte> map)
    {
        if (_tensorMapEncodeTiled == null) throw new CudaException("The NVIDIA driver has no cuTensorMapEncodeTiled: it is older than CUDA 12.");
        ulong* lengths = stackalloc ulong[] { (ulong)shape.Length0, (ulong)shape.Length1, (ulong)shape.Length2, (ulong)shape.Length3 };
        ulong* strides = stackalloc ulong[] { (ulong)shape.Stride1, (ulong)shape.Stride2, (ulong)shape.Stride3 };
        uint* box = stackalloc uint[] { (uint)shape.Box0, (uint)shape.Box1, (uint)shape.Box2, 1 };
        uint* elementStrides = stackalloc uint[] { 1, 1, 1, 1 };
        byte* room = stackalloc byte[TensorMapShape.MapBytes + MapAlignment];
        byte* encoded = (byte*)(((nuint)room + (MapAlignment - 1)) & ~(nuint)(MapAlignment - 1));
        Check(
            _tensorMapEncodeTiled(
                encoded, shape.IsBFloat16 ? TensorBFloat16 : TensorFloat16, 4, shape.Address, lengths, strides, box, elementStrides, NoInterleave, Swizzle128, Promotion256, FillZeros),
            "cuTensorMapEncodeTiled");
        new ReadOnlySpan<byte>(encoded, TensorMapShape.MapBytes).CopyTo(map);
    }
}
