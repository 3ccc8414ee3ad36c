using System.Numerics.Tensors;
using FusedAttention.Comparison.Cases;

namespace FusedAttention.Comparison.Contenders;

/// <summary>This library, through its public API.</summary>
internal static class OurContender
{
    public static ContenderEntry Entry(CpuExecution execution) => new("FusedAttention", "token-major", IsOurs: true, (attentionCase, inputs) => attentionCase.Type switch
    {
        AttentionElementType.Float32 => new Typed<float, float>(attentionCase, inputs, execution),
        AttentionElementType.Float16 => new Typed<Half, Half>(attentionCase, inputs, execution),
        AttentionElementType.Int8 => new Typed<Half, sbyte>(attentionCase, inputs, execution),
        AttentionElementType.Q8Block => new Typed<Half, Q8Block>(attentionCase, inputs, execution),
        _ => new Typed<BFloat16, BFloat16>(attentionCase, inputs, execution),
    });

    private sealed unsafe class Typed<TQuery, TKeyValue> : Contender
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        private readonly AttentionCase _case;
        private readonly AttentionOptions _options;
        private readonly CpuExecution _execution;
        private readonly TQuery* _query;
        private readonly TKeyValue* _key;
        private readonly TKeyValue* _value;
        private readonly AlignedBuffer? _keyScale;
        private readonly AlignedBuffer? _valueScale;
        private readonly AlignedBuffer _output;

        public Typed(AttentionCase attentionCase, CaseInputs inputs, CpuExecution execution)
        {
            _case = attentionCase;
            _options = new() { Mask = attentionCase.Mask, Scale = attentionCase.Scale };
            _execution = execution;
            _query = (TQuery*)inputs.Query.Pointer;
            _key = (TKeyValue*)inputs.Key.Pointer;
            _value = (TKeyValue*)inputs.Value.Pointer;
            _keyScale = inputs.KeyScale;
            _valueScale = inputs.ValueScale;
            _output = new AlignedBuffer(attentionCase.QueryElements * sizeof(TQuery));
        }

        public override void Run()
        {
            AttentionOperands operands = default;
            if (_keyScale is not null) operands.KeyScale = Scales(_keyScale);
            if (_valueScale is not null) operands.ValueScale = Scales(_valueScale);
            Attention.Forward(_query, _key, _value, (TQuery*)_output.Pointer, _case.Shape, _options, operands, _execution);
        }

        public override void CopyOutput(Span<float> output) => ElementRow.Load(_case.QueryType, _output, 0, output);

        protected override void Dispose(bool disposing) => _output.Dispose();

        private ReadOnlyTensorSpan<float> Scales(AlignedBuffer scales) => new((float*)scales.Pointer, (nint)scales.Length / sizeof(float), [1, _case.Keys, _case.KeyValueHeads]);
    }
}
