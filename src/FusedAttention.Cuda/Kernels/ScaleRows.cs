using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using Fields = FusedAttention.Cuda.Kernels.BlockFields<FusedAttention.Cuda.Kernels.CallBlock>;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Scales of 8-bit keys, or of values, of one head of one sequence: where a key's scale lies.</summary>
internal sealed class ScaleRows
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly SequenceReader _sequence;
    private readonly bool _areValues;
    private readonly Global _first;

    private ScaleRows(PtxKernel k, CallReader call, SequenceReader sequence, I32 number, I32 head, bool areValues)
    {
        (_k, _call, _sequence, _areValues) = (k, call, sequence, areValues);
        I64 first = (head.Widen() * I64Of(ref Block.Strides.HeadStride)) + (call.Traits.BlockSize > 0 ? 0 : StartOf(number));
        _first = new(I64Of(ref Block.First) + (first << 2));
    }

    private ref ScaleBlock Block => ref _areValues ? ref Fields.Block.ValueScale : ref Fields.Block.KeyScale;

    /// <summary>Scales of keys; null where the call has none.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="number">Its number in the call.</param>
    /// <param name="head">The key/value head.</param>
    public static ScaleRows? Keys(PtxKernel k, CallReader call, SequenceReader sequence, I32 number, I32 head) =>
        call.Traits.Has(CallFeatures.KeyScale) ? new(k, call, sequence, number, head, areValues: false) : null;

    /// <summary>Scales of values; null where the call has none.</summary>
    /// <inheritdoc cref="Keys"/>
    public static ScaleRows? Values(PtxKernel k, CallReader call, SequenceReader sequence, I32 number, I32 head) =>
        call.Traits.Has(CallFeatures.ValueScale) ? new(k, call, sequence, number, head, areValues: true) : null;

    /// <summary>The block that holds a key, of a paged cache: what <see cref="Of"/> waits for.</summary>
    public I32? BlockOf(I32 key) => _call.Traits.BlockSize == 0 ? null : _call.BlockId(_sequence.BlockTableStart, I32.Quotient(key, _call.Traits.BlockSize));

    /// <summary>Where the scale of a key lies, which the sequence has.</summary>
    /// <param name="key">The key.</param>
    /// <param name="block">What <see cref="BlockOf"/> has found; null: it is looked up.</param>
    public Global Of(I32 key, I32? block = null)
    {
        int blockSize = _call.Traits.BlockSize;
        I64 tokenStride = I64Of(ref Block.Strides.TokenStride);
        if (blockSize == 0) return _first + ((key.Widen() * tokenStride) << 2);
        I32 inBlock = key - (I32.Quotient(key, blockSize) * blockSize);
        return _first + (((((block ?? BlockOf(key)!).Widen() * I64Of(ref Block.Strides.BlockStride)) + (inBlock.Widen() * tokenStride))) << 2);
    }

    /// <summary>Where the scales of the sequence begin: by its number, or by its first token, in which keys lie as they do among the scales.</summary>
    private I64 StartOf(I32 number)
    {
        I64 start = _k.Variable("scale_start", number.Widen() * I64Of(ref Block.Strides.SequenceStride)), divisor = I64Of(ref Block.Strides.TokenDivisor);
        _k.If(divisor.IsNot(0), () =>
        {
            I64 token = I64.In(_k);
            _k.Emit("div.u64", token, _areValues ? _sequence.ValueStart : _sequence.KeyStart, divisor);
            start.Set(token * I64Of(ref Block.Strides.TokenStride));
        });
        return start;
    }

    private I64 I64Of<T>(ref T field) => _k.Parameter<I64>(Fields.OffsetOf(ref field));
}

/// <summary>The scales of a step's keys, and of their values, in a warp: each lane has those of one key, asked for a step ahead, and none of keys that are not the item's.</summary>
internal sealed class StepScales
{
    private readonly PtxKernel _k;
    private readonly WorkPlace _place;
    private readonly I32 _lane;
    private readonly int _keys;
    private readonly ScaleRows? _keyRows;
    private readonly ScaleRows? _valueRows;
    private readonly F32[] _working;
    private readonly F32[] _next;
    private readonly I32 _nextKey;
    private readonly I32? _nextBlock;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call, which has scales.</param>
    /// <param name="place">What the block works on.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="keys">Of a step: 16 or 32.</param>
    public StepScales(PtxKernel k, CallReader call, WorkPlace place, I32 lane, int keys)
    {
        (_k, _place, _lane, _keys) = (k, place, lane, keys);
        _keyRows = ScaleRows.Keys(k, call, place.Sequence, place.Item.Sequence, place.Head);
        _valueRows = ScaleRows.Values(k, call, place.Sequence, place.Item.Sequence, place.Head);
        _working = k.Variables("scale", 2, 0);
        _next = k.Variables("next_scale", 2, 0);
        _nextKey = k.Variable("next_scale_key", (I32)0);
        if (call.Traits.BlockSize > 0) _nextBlock = k.Variable("next_scale_block", (I32)0);
    }

    public bool HasKeys => _keyRows is not null;

    public bool HasValues => _valueRows is not null;

    /// <summary>Asks for those of the first step.</summary>
    /// <param name="key">Its first key.</param>
    public void Begin(I32 key)
    {
        Look(key);
        Load();
    }

    /// <summary>Those asked for are the ones of the step at hand, and the next step's blocks are looked up.</summary>
    /// <param name="next">The first key of the warp's next step.</param>
    public void Advance(I32 next)
    {
        for (int i = 0; i < 2; i++) _working[i].Set(_next[i]);
        Look(next);
    }

    /// <summary>Asks for the next step's.</summary>
    public void Load()
    {
        foreach (F32 scale in _next) scale.Set(0);
        _k.If(IsThere(), () =>
        {
            if (_keyRows is not null) _k.Load(_next[0], _keyRows.Of(_nextKey, _nextBlock));
            if (_valueRows is not null) _k.Load(_next[1], _valueRows.Of(_nextKey, _nextBlock));
        });
    }

    /// <summary>The scale of a key of the step, or of its value.</summary>
    /// <param name="column">The lane's key, from the step's first one.</param>
    /// <param name="areValues">Whether it is the value's.</param>
    public F32 Of(I32 column, bool areValues) => _k.ShuffleFrom(_working[areValues ? 1 : 0], column);

    private void Look(I32 key)
    {
        _nextKey.Set(key + (_lane & (_keys - 1)));
        if (_nextBlock is not null) _k.If(IsThere(), () => _nextBlock.Set((_keyRows ?? _valueRows!).BlockOf(_nextKey)!));
    }

    private Predicate IsThere() => (_nextKey >= _place.Item.FirstKey) & (_nextKey < _place.Item.EndKey);
}
