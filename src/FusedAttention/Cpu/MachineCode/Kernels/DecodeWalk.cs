namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>What <see cref="DecodeWalk"/> goes through: some tokens of a tile, all their heads, four rows a head or a multiple. The beginning of a kernel's block.</summary>
internal unsafe struct DecodeWalkBlock
{
    /// <summary>The addresses of the tokens' keys or values in head 0. Beyond the last token the kernels may read three more, which repeat it.</summary>
    public nint* Tokens;
    public nint* TokensEnd;

    /// <summary>The addresses of the tokens to ask for, one a token.</summary>
    public nint* Ahead;

    /// <summary>The first row's score or weight of the first token.</summary>
    public void* Numbers;

    /// <summary>Bytes from head 0 to the first head, and from each to the next.</summary>
    public nint Offset;
    public nint HeadStride;
    public nint AheadOffset;
    public nint AheadHeadStride;
    public nint Heads;

    /// <summary>Rows of a head, in fours.</summary>
    public nint RowBlocks;

    /// <summary>Bytes of addresses of the tokens that all heads pass before the next tokens come: 8 a token.</summary>
    public nint StepBytes;

    /// <summary>Bytes of scores or weights of the same tokens.</summary>
    public nint StepNumberBytes;

    // From here on the walk's own.
    public nint* StepEnd;
    public void* RowNumbers;
    public nint HeadOffset;
    public nint HeadAheadOffset;
    public nint HeadsLeft;
    public nint RowBlocksLeft;
}

/// <summary>The way of a decode kernel through its tokens: a step of some tokens after another, in it head after head, and of each head four rows after four. The first four of a head ask for the tokens ahead.</summary>
internal sealed unsafe class DecodeWalk
{
    private readonly Assembler _k;
    private readonly Gpr _t;
    private readonly Mem _tokensEnd;
    private readonly Mem _numbers;
    private readonly Mem _offset;
    private readonly Mem _headStride;
    private readonly Mem _aheadOffset;
    private readonly Mem _aheadHeadStride;
    private readonly Mem _heads;
    private readonly Mem _rowBlocks;
    private readonly Mem _stepBytes;
    private readonly Mem _stepNumberBytes;
    private readonly Mem _headsLeft;
    private readonly Mem _rowBlocksLeft;

    /// <param name="k">The kernel, whose block begins with a <see cref="DecodeWalkBlock"/>.</param>
    /// <param name="t">A register that nothing is kept in from one head to the next.</param>
    public DecodeWalk(Assembler k, Gpr t)
    {
        (_k, _t) = (k, t);

        // A block that only tells how far its fields are from its start.
        DecodeWalkBlock fields;
        DecodeWalkBlock* at = &fields;
        Tokens = At(&at->Tokens, nameof(DecodeWalkBlock.Tokens));
        _tokensEnd = At(&at->TokensEnd, nameof(DecodeWalkBlock.TokensEnd));
        Ahead = At(&at->Ahead, nameof(DecodeWalkBlock.Ahead));
        _numbers = At(&at->Numbers, nameof(DecodeWalkBlock.Numbers));
        _offset = At(&at->Offset, nameof(DecodeWalkBlock.Offset));
        _headStride = At(&at->HeadStride, nameof(DecodeWalkBlock.HeadStride));
        _aheadOffset = At(&at->AheadOffset, nameof(DecodeWalkBlock.AheadOffset));
        _aheadHeadStride = At(&at->AheadHeadStride, nameof(DecodeWalkBlock.AheadHeadStride));
        _heads = At(&at->Heads, nameof(DecodeWalkBlock.Heads));
        _rowBlocks = At(&at->RowBlocks, nameof(DecodeWalkBlock.RowBlocks));
        _stepBytes = At(&at->StepBytes, nameof(DecodeWalkBlock.StepBytes));
        _stepNumberBytes = At(&at->StepNumberBytes, nameof(DecodeWalkBlock.StepNumberBytes));
        StepEnd = At(&at->StepEnd, nameof(DecodeWalkBlock.StepEnd));
        RowNumbers = At(&at->RowNumbers, nameof(DecodeWalkBlock.RowNumbers));
        HeadOffset = At(&at->HeadOffset, nameof(DecodeWalkBlock.HeadOffset));
        HeadAheadOffset = At(&at->HeadAheadOffset, nameof(DecodeWalkBlock.HeadAheadOffset));
        _headsLeft = At(&at->HeadsLeft, nameof(DecodeWalkBlock.HeadsLeft));
        _rowBlocksLeft = At(&at->RowBlocksLeft, nameof(DecodeWalkBlock.RowBlocksLeft));

        Mem At(void* field, string name) => k.Field((int)((byte*)field - (byte*)at), name);
    }

    /// <summary>The addresses of the step's tokens.</summary>
    public Mem Tokens { get; }

    /// <summary>The addresses of the tokens to ask for.</summary>
    public Mem Ahead { get; }

    /// <summary>The end of the step's tokens.</summary>
    public Mem StepEnd { get; }

    /// <summary>The score or weight of the step's first token in the first of the four rows.</summary>
    public Mem RowNumbers { get; }

    /// <summary>From an address of a token to the head.</summary>
    public Mem HeadOffset { get; }

    /// <summary>The same for tokens to ask for.</summary>
    public Mem HeadAheadOffset { get; }

    /// <summary>Writes it, and the return.</summary>
    /// <param name="begin">At the beginning of each step: what goes from the first row on.</param>
    /// <param name="rowsOfFour">Four rows of a head over the tokens of the step, by a name and whether they ask for those ahead; moves <see cref="RowNumbers"/> on by four rows.</param>
    public void Emit(Action begin, Action<string, bool> rowsOfFour)
    {
        Label step = new("step"), whole = new("whole_step"), head = new("head"), rows = new("rows"), headEnd = new("head_end"), end = new("end");
        _k.Mov(_t, Tokens);
        _k.Cmp(_t, _tokensEnd);
        _k.Jae(end);

        _k.Place(step);
        _k.Add(_t, _stepBytes);
        _k.Cmp(_t, _tokensEnd);
        _k.Jb(whole);
        _k.Mov(_t, _tokensEnd);
        _k.Place(whole);
        _k.Mov(StepEnd, _t);
        Copy(_heads, _headsLeft);
        Copy(_offset, HeadOffset);
        Copy(_aheadOffset, HeadAheadOffset);
        Copy(_numbers, RowNumbers);
        begin();

        _k.Place(head);
        Copy(_rowBlocks, _rowBlocksLeft);
        rowsOfFour("first", true);
        _k.Place(rows);
        _k.Dec(_rowBlocksLeft);
        _k.Je(headEnd);
        rowsOfFour("next", false);
        _k.Jmp(rows);

        _k.Place(headEnd);
        Advance(HeadOffset, _headStride);
        Advance(HeadAheadOffset, _aheadHeadStride);
        _k.Dec(_headsLeft);
        _k.Jne(head);

        Advance(Ahead, _stepBytes);
        Advance(_numbers, _stepNumberBytes);
        _k.Mov(_t, StepEnd);
        _k.Mov(Tokens, _t);
        _k.Cmp(_t, _tokensEnd);
        _k.Jb(step);
        _k.Place(end);
        _k.Return();
    }

    /// <summary>to = from, by way of the register.</summary>
    public void Copy(Mem from, Mem to)
    {
        _k.Mov(_t, from);
        _k.Mov(to, _t);
    }

    private void Advance(Mem field, Mem by)
    {
        _k.Mov(_t, by);
        _k.Add(_t, field);
        _k.Mov(field, _t);
    }
}
