using FusedAttention.Comparison.Cases;

namespace FusedAttention.Comparison.Contenders;

/// <summary>This library, through its public API.</summary>
internal static class OurContender
{
    public static ContenderEntry Entry(CpuExecution execution) => new("FusedAttention", "token-major", IsOurs: true, (attentionCase, inputs) => attentionCase.Type switch
    {
        AttentionElementType.Float32 => new Typed<float>(attentionCase, inputs, execution),
        AttentionElementType.Float16 => new Typed<Half>(attentionCase, inputs, execution),
        _ => new Typed<BFloat16>(attentionCase, inputs, execution),
    });

    private sealed unsafe class Typed<T> : Contender
        where T : unmanaged
    {
        private readonly AttentionCase _case;
        private readonly AttentionOptions _options;
        private readonly CpuExecution _execution;
        private readonly T* _query;
        private readonly T* _key;
        private readonly T* _value;
        private readonly AlignedBuffer _output;

        public Typed(AttentionCase attentionCase, CaseInputs inputs, CpuExecution execution)
        {
            _case = attentionCase;
            _options = new() { Mask = attentionCase.Mask, Scale = attentionCase.Scale };
            _execution = execution;
            _query = (T*)inputs.Query.Pointer;
            _key = (T*)inputs.Key.Pointer;
            _value = (T*)inputs.Value.Pointer;
            _output = new AlignedBuffer(attentionCase.QueryElements * sizeof(T));
        }

        public override void Run() => Attention.Forward(_query, _key, _value, (T*)_output.Pointer, _case.Shape, _options, execution: _execution);

        public override void CopyOutput(Span<float> output) => ElementRow.Load(_case.Type, _output, 0, output);

        protected override void Dispose(bool disposing) => _output.Dispose();
    }
}
