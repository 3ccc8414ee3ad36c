using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The functions of a call at one row, and keys counted from one of them.</summary>
/// <param name="Score">The score function; null without one.</param>
/// <param name="Keep">The mask function; null without one.</param>
internal sealed record RowFunctions(RowFunction? Score, RowFunction? Keep)
{
    /// <summary>Those of a call; null where it has none.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="row">The row; null where there is no function.</param>
    /// <param name="first">The key that columns are counted from.</param>
    /// <param name="ofTile">What the tile has of a step of the score function, by its column; null: nothing.</param>
    public static RowFunctions? Of(PtxKernel k, CallReader call, RowReader? row, I32 first, Func<int, int, F32?>? ofTile = null)
    {
        KernelTraits traits = call.Traits;
        if (traits.Score is null && traits.Keep is null) return null;
        return new(
            traits.Score is null ? null : new(FunctionBlock.OfScore(k, traits), row!, first, row!.Numbers, ofTile),
            traits.Keep is null ? null : new(FunctionBlock.OfMask(k, traits), row!, first));
    }
}

/// <summary>
/// A function at one row, as instructions: what depends on neither score nor key is computed once for all columns, the rest for each. Operations are written when something asks for their result, and an addition to a product
/// that no one else needs is a multiply-add.
/// </summary>
/// <remarks>
/// Sums and products are written with their rounding, which keeps the assembler from fusing them by its own choice: a row's bits may not depend on which of two copies of the text computed it.
/// What a row has is in registers of the block of text in which it was first asked for, so an object is for one such block.
/// </remarks>
internal sealed class RowFunction
{
    private readonly PtxKernel _k;
    private readonly FunctionOperands _operands;
    private readonly RowReader _row;
    private readonly I32 _first;
    private readonly Shared? _numbers;
    private readonly Func<int, int, F32?>? _ofTile;
    private readonly FunctionSchedule _schedule;
    private readonly Value?[] _ofRow;
    private F32? _firstNumber;
    private F32? _ahead;
    private F32? _behind;
    private I32? _wholeAhead;

    /// <param name="operands">The function, and what it has captured.</param>
    /// <param name="row">The row.</param>
    /// <param name="first">The key that columns are counted from.</param>
    /// <param name="numbers">Where what <see cref="LeaveNumbers(Shared)"/> has left of the row lies; null: that is computed.</param>
    /// <param name="ofTile">What the tile has of a step, by its column; null: nothing.</param>
    public RowFunction(FunctionOperands operands, RowReader row, I32 first, Shared? numbers = null, Func<int, int, F32?>? ofTile = null)
    {
        (_k, _operands, _row, _first, _numbers, _ofTile) = (operands.Kernel, operands, row, first, numbers, ofTile);
        _schedule = new(operands.Form);
        _ofRow = new Value?[_schedule.Count];
    }

    /// <summary>The score after the function.</summary>
    /// <param name="score">The score before.</param>
    /// <param name="column">How far its key is behind the first one.</param>
    public F32 ScoreOf(F32 score, int column) => (F32)new Column(this, score, column).Result();

    /// <summary>Whether the row may see a key.</summary>
    /// <param name="column">How far it is behind the first one.</param>
    public Predicate Keeps(int column) => (Predicate)new Column(this, null, column).Result();

    /// <summary>Computes the row's numbers and leaves them somewhere.</summary>
    public void LeaveNumbers(Shared to) => LeaveNumbers([.. _operands.Form.RowNumbers], to, sizeof(float));

    /// <summary>Computes numbers of the row and the first key, and leaves them somewhere.</summary>
    /// <param name="steps">The steps that give them.</param>
    /// <param name="to">Where the first one goes.</param>
    /// <param name="stride">From one to the next, in bytes.</param>
    public void LeaveNumbers(IReadOnlyList<int> steps, Shared to, int stride)
    {
        var column = new Column(this, null, 0);
        for (int i = 0; i < steps.Count; i++) _k.Store(to + (i * stride), column.NumberOf(steps[i]));
    }

    /// <summary>The row's position less the first key.</summary>
    private I32 WholeAhead => _wholeAhead ??= _row.Position.ToI32() - _first;

    /// <summary>A result that is the same for all keys, if it has been left; else null.</summary>
    private F32? Left(int step) => _numbers is not null && _operands.Form.RowNumbers.IndexOf(step) is >= 0 and int place ? _k.Load<F32>(_numbers + (place * sizeof(float))) : null;

    /// <summary>One key of the row.</summary>
    private sealed class Column(RowFunction row, F32? score, int column)
    {
        private readonly Value?[] _ofColumn = new Value?[row._ofRow.Length];
        private readonly FunctionOperands _operands = row._operands;

        public Value Result() => Of(_ofColumn.Length - 1);

        /// <summary>The result of a step that gives a number.</summary>
        public F32 NumberOf(int step) => Number(step);

        private ScoreStep Step(int index) => row._schedule[index];

        private Value Of(int index) => (row._schedule.DependsOnKey(index) ? _ofColumn : row._ofRow)[index] ??= row.Left(index) ?? row._ofTile?.Invoke(index, column) ?? Write(Step(index));

        private F32 Number(int index) => (F32)Of(index);

        private Predicate Truth(int index) => (Predicate)Of(index);

        private Value Write(in ScoreStep step) => step.Operation switch
        {
            ScoreOperation.Constant => step.IsTruth ? row._k.Variable("truth", step.Value != 0) : (F32)step.Value,
            ScoreOperation.Parameter => _operands.Parameter(step.Slot),
            ScoreOperation.Score => score!,
            ScoreOperation.Batch => row._row.Batch.ToF32(),
            ScoreOperation.Head => row._row.Head.ToF32(),
            ScoreOperation.Query => row._row.Query.ToF32(),
            ScoreOperation.Position => row._row.Position.ToI32().ToF32(),
            ScoreOperation.Key => Behind(row._firstNumber ??= row._first.ToF32()),
            ScoreOperation.Add => Sum(step, "add.rn.f32"),
            ScoreOperation.Subtract => Sum(step, "sub.rn.f32"),
            ScoreOperation.Multiply => F32.From("mul.rn.f32", Number(step.First), Number(step.Second)),
            ScoreOperation.Divide => Quotient(Number(step.First), step.Second),
            ScoreOperation.Remainder => Elementary.Remainder(Number(step.First), Number(step.Second), QuotientOfWhole(Number(step.First), step.Second)),
            ScoreOperation.Negate => -Number(step.First),
            ScoreOperation.Exp => Elementary.Exp(Number(step.First)),
            ScoreOperation.Log => Elementary.Log(Number(step.First)),
            ScoreOperation.Sqrt => Elementary.Sqrt(Number(step.First)),
            ScoreOperation.Abs => Number(step.First).Abs(),
            ScoreOperation.Min => F32.From("min.NaN.f32", Number(step.First), Number(step.Second)),
            ScoreOperation.Max => F32.From("max.NaN.f32", Number(step.First), Number(step.Second)),
            ScoreOperation.Tanh => ScoreWriter.Tanh(Number(step.First)),
            ScoreOperation.Floor => F32.From("cvt.rmi.f32.f32", Number(step.First)),
            ScoreOperation.Lookup => Lookup(step),
            ScoreOperation.Less => Number(step.First) < Number(step.Second),
            ScoreOperation.LessOrEqual => Number(step.First) <= Number(step.Second),
            ScoreOperation.Equal => Predicate.Of("setp.eq.f32", Number(step.First), Number(step.Second)),
            ScoreOperation.And => Truth(step.First) & Truth(step.Second),
            ScoreOperation.Or => Truth(step.First) | Truth(step.Second),
            ScoreOperation.Not => !Truth(step.First),
            ScoreOperation.Select when step.IsTruth => (Truth(step.First) & Truth(step.Second)) | (!Truth(step.First) & Truth(step.Third)),
            ScoreOperation.Select => F32.Select(Truth(step.First), Number(step.Second), Number(step.Third)),
            _ => throw new InvalidOperationException($"{step.Operation} is no operation of a function."),
        };

        /// <summary>A whole number that rises by one with the column: exact, as it is below 2^24.</summary>
        private F32 Behind(F32 ofFirst) => column == 0 ? ofFirst : F32.From("add.rn.f32", ofFirst, (F32)column);

        private F32 Sum(in ScoreStep step, string rounded)
        {
            SumRule rule = row._schedule.RuleOf(step);
            switch (rule.Form)
            {
                case SumForm.Ahead:
                    F32 ahead = row._ahead ??= (row._row.Position.ToI32() - row._first).ToF32();
                    return column == 0 ? ahead : F32.From("sub.rn.f32", ahead, (F32)column);
                case SumForm.Behind:
                    return Behind(row._behind ??= (row._first - row._row.Position.ToI32()).ToF32());
                case SumForm.MultiplyAdd:
                    return F32.MultiplyAdd(
                        rule.NegatesLeft ? Negative(rule.Left) : Number(rule.Left), Number(rule.Right), rule.NegatesAddend ? Negative(rule.Addend) : Number(rule.Addend));
                default:
                    return F32.From(rounded, Number(step.First), Number(step.Second));
            }
        }

        private F32 Negative(int index) => Step(index).Operation == ScoreOperation.Constant ? (F32)(-Step(index).Value) : -Number(index);

        /// <summary>Correctly rounded: by a constant without a division, which is a branch and a dozen instructions.</summary>
        private F32 Quotient(F32 number, int divisor)
        {
            ScoreStep step = Step(divisor);
            if (step.Operation != ScoreOperation.Constant || !Elementary.MayDivideBy(step.Value)) return number / Number(divisor);
            return Elementary.Quotient(number, step.Value);
        }

        /// <summary>The same where the result is of no use unless both are whole numbers.</summary>
        private F32 QuotientOfWhole(F32 number, int divisor)
        {
            ScoreStep step = Step(divisor);
            if (step.Operation != ScoreOperation.Constant || !Elementary.MayDivideBy(step.Value)) return number / Number(divisor);
            return Elementary.QuotientOfFinite(number, step.Value);
        }

        private F32 Lookup(in ScoreStep step)
        {
            bool hasRows = step.Second >= 0;
            I32 columns = _operands.Columns(step.Slot), entry = Index(hasRows ? step.Second : step.First, columns);
            if (hasRows) entry = I32.MultiplyAdd(Index(step.First, _operands.Rows(step.Slot)), columns, entry);
            return row._k.Load<F32>(_operands.Entries(step.Slot) + I64.Product(entry, sizeof(float)), ".nc");
        }

        /// <summary>The nearest entry that the table has: of NaN, and of what is below 0, the first.</summary>
        private I32 Index(int index, I32 count) => Step(index).Operation switch
        {
            // Calls whose heads, sequences or queries are more than the entries are refused.
            ScoreOperation.Head => row._row.Head,
            ScoreOperation.Batch => row._row.Batch,
            ScoreOperation.Query => row._row.Query,
            ScoreOperation.Key => I32.Min(row._first + column, count - 1),
            ScoreOperation.Constant => I32.Min((int)Math.Clamp(Step(index).Value, 0, ScoreTable.LargestExact), count - 1),
            _ => I32.Max(I32.Min(Distance(index) ?? I32.From("cvt.rzi.s32.f32", Number(index)), count - 1), 0),
        };

        /// <summary>The whole number that a step gives if it is the distance of the key plus or less whole constants, which no rounding changes: additions, where from a float it takes a conversion. Null: it is something else.</summary>
        private I32? Distance(int index)
        {
            ScoreStep step = Step(index);
            if (step.Operation is not (ScoreOperation.Add or ScoreOperation.Subtract)) return null;
            SumForm form = row._schedule.RuleOf(step).Form;
            if (form == SumForm.Ahead) return row.WholeAhead - column;
            if (form == SumForm.Behind) return column - row.WholeAhead;
            if (Whole(step.Second) is { } second && Distance(step.First) is { } ahead) return ahead + (step.Operation == ScoreOperation.Add ? second : -second);
            return step.Operation == ScoreOperation.Add && Whole(step.First) is { } first && Distance(step.Second) is { } behind ? behind + first : null;
        }

        /// <summary>A constant that is a whole number, and far enough from where floats are none any more; else null.</summary>
        private int? Whole(int index)
        {
            const float Most = 1 << 20;
            ScoreStep step = Step(index);
            return step.Operation == ScoreOperation.Constant && Math.Abs(step.Value) <= Most && MathF.Floor(step.Value).Equals(step.Value) ? (int)step.Value : null;
        }
    }
}
