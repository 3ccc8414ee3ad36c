using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>What is known of a row's result ahead of its sums, in registers that more than one way leads to.</summary>
/// <param name="IsStored">Whether it is stored at all.</param>
/// <param name="Factor">What its sums are multiplied with.</param>
/// <param name="Place">Where it begins in device memory.</param>
internal sealed record RowResult(Predicate IsStored, F32 Factor, I64 Place)
{
    public static RowResult In(PtxKernel k, int row) => new(k.Variable($"is_stored{row}", value: false), F32.In(k).As($"result_factor{row}"), I64.In(k).As($"result_place{row}"));

    public void Set(Predicate isStored, F32 factor, Global place)
    {
        IsStored.Set(isStored);
        Factor.Set(factor);
        Place.Set(place.ToI64());
    }
}
