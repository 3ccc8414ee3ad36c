using System.Collections.Immutable;
using System.Globalization;

namespace FusedAttention.Cuda.Comparison;

/// <summary>What a <see cref="NativeCall"/> says, in the library's terms and in memory of its own.</summary>
internal sealed unsafe class CallDescription
{
    public CallDescription(NativeCall* call)
    {
        if (call->Size != sizeof(NativeCall)) throw new ArgumentException($"The call takes {call->Size} bytes and is expected to take {sizeof(NativeCall)}: compare.py and this library are of different versions.");
        Kind = call->Kind;
        Form = call->Form;
        ElementType = (NativeElementType)call->Query.ElementType;
        KeyValueType = (NativeElementType)call->Key.ElementType;
        int heads = (int)call->Query.Lengths[call->Query.Rank - 2], dim = (int)call->Query.Lengths[call->Query.Rank - 1];
        NativeTensor key = call->Key;
        int keyHeads = (int)key.Lengths[key.Rank - 2], valueDim = (int)call->Value.Lengths[call->Value.Rank - 1];
        bool isBatched = Kind == NativeCallKind.Dense && call->Query.Rank == 4;
        Shape = new(
            isBatched ? (int)call->Query.Lengths[0] : 1,
            Kind == NativeCallKind.Dense ? (int)call->Query.Lengths[call->Query.Rank - 3] : 1,
            Kind == NativeCallKind.Dense ? (int)key.Lengths[key.Rank - 3] : 1,
            heads, keyHeads, dim, valueDim);
        if (isBatched)
        {
            Shape = Shape with
            {
                QueryStrides = StridesOf(call->Query), KeyStrides = StridesOf(key), ValueStrides = StridesOf(call->Value), OutputStrides = StridesOf(call->Output),
            };
        }

        BlockSize = Kind == NativeCallKind.Paged ? (int)key.Lengths[1] : null;
        int sequences = (int)call->Sequences;
        if (Kind != NativeCallKind.Dense)
        {
            CumulativeQueryLengths = new ReadOnlySpan<int>(call->CumulativeQueryLengths, sequences + 1).ToArray();
            KeyLengths = new ReadOnlySpan<int>(call->KeyLengths, Kind == NativeCallKind.Packed ? sequences + 1 : sequences).ToArray();
        }

        if (Kind == NativeCallKind.Paged)
        {
            TableColumns = (int)call->TableColumns;
            BlockTables = new ReadOnlySpan<int>(call->BlockTables, sequences * TableColumns).ToArray();
        }

        AttentionMask mask = AttentionMask.Window(call->WindowLeft < 0 ? null : (int)call->WindowLeft, call->WindowRight < 0 ? null : (int)call->WindowRight);
        Options = new()
        {
            Mask = call->IsCausal != 0 ? mask.AndCausal() : mask,
            Scale = call->Scale == 0 ? null : (float)call->Scale,
            SoftCap = (float)call->SoftCap,
            AlibiSlopes = NumbersOf(call->AlibiSlopes, heads),
            SinkLogits = NumbersOf(call->SinkLogits, heads),
            ScoreFunction = FunctionRegistry.Score(call->ScoreFunction, heads, Kind == NativeCallKind.Dense ? Shape.Batch : sequences),
            MaskFunction = FunctionRegistry.Mask(call->MaskFunction, Kind == NativeCallKind.Dense ? Shape.Batch : sequences),
        };
        Operands = (call->Mask.Address != 0 ? OperandKinds.BooleanMask : OperandKinds.None) | (call->LogSumExp.Address != 0 ? OperandKinds.LogSumExp : OperandKinds.None);
        if (call->KeyScale.Address != 0) Operands |= OperandKinds.KeyScale;
        if (call->ValueScale.Address != 0) Operands |= OperandKinds.ValueScale;
        if (call->Bias.Address != 0)
        {
            Operands |= (NativeElementType)call->Bias.ElementType switch
            {
                NativeElementType.Float16 => OperandKinds.BiasFloat16,
                NativeElementType.BFloat16 => OperandKinds.BiasBFloat16,
                NativeElementType.Float32 => OperandKinds.BiasFloat32,
                _ => throw new ArgumentException($"A bias of type {call->Bias.ElementType}."),
            };
        }
    }

    public NativeCallKind Kind { get; }

    public NativeForm Form { get; }

    public NativeElementType ElementType { get; }

    public NativeElementType KeyValueType { get; }

    public AttentionShape Shape { get; }

    public AttentionOptions Options { get; }

    public OperandKinds Operands { get; }

    public int? BlockSize { get; }

    public int[] CumulativeQueryLengths { get; } = [];

    /// <summary>Packed: cumulative. Paged: of each sequence.</summary>
    public int[] KeyLengths { get; } = [];

    public int[] BlockTables { get; } = [];

    public int TableColumns { get; }

    /// <summary>In words: what the two sides of the interface understand by a call can be compared without a GPU.</summary>
    public override string ToString()
    {
        string sequences = Kind == NativeCallKind.Dense ? "" : $", queries [{string.Join(' ', CumulativeQueryLengths)}], keys [{string.Join(' ', KeyLengths)}]";
        string pages = Kind == NativeCallKind.Paged ? $", blocks of {BlockSize} in {TableColumns} columns [{string.Join(' ', BlockTables)}]" : "";
        return string.Create(
            CultureInfo.InvariantCulture, $"{Kind} {ElementType}{(KeyValueType == ElementType ? "" : $" over {KeyValueType}")} {Shape.Batch} x {Shape.QueryLength} queries x {Shape.KeyLength} keys, heads {Shape.QueryHeads}/{Shape.KeyValueHeads}, dims {Shape.KeyDim}/{Shape.ValueDim}, key strides {Shape.KeyStrides.Batch} {Shape.KeyStrides.Token} {Shape.KeyStrides.Head}{sequences}{pages}; {Options}; {Operands}; {Form}");
    }

    private static AttentionStrides StridesOf(in NativeTensor tensor) => new(tensor.Strides[0], tensor.Strides[1], tensor.Strides[2]);

    private static ImmutableArray<float> NumbersOf(float* numbers, int count) => numbers is null ? default : [.. new ReadOnlySpan<float>(numbers, count)];
}
