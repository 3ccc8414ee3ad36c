using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <summary>
/// An additive bias of element type <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>: converts implicitly from tensors and tensor spans of these.
/// The element type need not be that of query or key.
/// </summary>
public readonly ref struct AttentionBias
{
    private readonly ref byte _first;

    private AttentionBias(ref byte first, TensorLayout layout, AttentionElementType elementType)
    {
        _first = ref first;
        Layout = layout;
        ElementType = elementType;
    }

    /// <summary>The element type of the bias.</summary>
    public AttentionElementType ElementType { get; }

    /// <summary>Whether there is no bias at all.</summary>
    public bool IsAbsent => Layout.IsAbsent;

    internal TensorLayout Layout { get; }

    /// <summary>A bias of <see cref="float"/>.</summary>
    /// <param name="bias">The tensor.</param>
    public static implicit operator AttentionBias(ReadOnlyTensorSpan<float> bias) => Create(bias, AttentionElementType.Float32);

    /// <summary>A bias of <see cref="Half"/>.</summary>
    /// <param name="bias">The tensor.</param>
    public static implicit operator AttentionBias(ReadOnlyTensorSpan<Half> bias) => Create(bias, AttentionElementType.Float16);

    /// <summary>A bias of <see cref="BFloat16"/>.</summary>
    /// <param name="bias">The tensor.</param>
    public static implicit operator AttentionBias(ReadOnlyTensorSpan<BFloat16> bias) => Create(bias, AttentionElementType.BFloat16);

    /// <summary>A bias of <see cref="float"/>.</summary>
    /// <param name="bias">The tensor.</param>
    public static implicit operator AttentionBias(Tensor<float> bias) => bias.AsReadOnlyTensorSpan();

    /// <summary>A bias of <see cref="Half"/>.</summary>
    /// <param name="bias">The tensor.</param>
    public static implicit operator AttentionBias(Tensor<Half> bias) => bias.AsReadOnlyTensorSpan();

    /// <summary>A bias of <see cref="BFloat16"/>.</summary>
    /// <param name="bias">The tensor.</param>
    public static implicit operator AttentionBias(Tensor<BFloat16> bias) => bias.AsReadOnlyTensorSpan();

    /// <summary>The first element, for <c>fixed</c>.</summary>
    internal ref byte GetPinnableReference() => ref _first;

    private static AttentionBias Create<T>(ReadOnlyTensorSpan<T> bias, AttentionElementType elementType) => new(
        ref Unsafe.As<T, byte>(ref Unsafe.AsRef(in bias.GetPinnableReference())),
        TensorLayout.Of(bias.Lengths, bias.Strides),
        elementType);
}
