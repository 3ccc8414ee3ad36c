using System.Numerics;
using FusedAttention.Cuda.Emulation.Syntax;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <summary>
/// Gives each register of a text a row of the machine's, and several the same row where no path needs both at once: a text has thousands, and a few hundred rows stay in the processor's caches. Registers
/// that some path reads before it writes them are known by it, and have a row of their own.
/// </summary>
/// <remarks>Liveness over the basic blocks, then a linear scan over the intervals in which registers live. A register that an instruction reads last never shares a row with what that instruction writes.</remarks>
internal sealed class RegisterAllocation
{
    public const int RowBytes = 128;

    private readonly PtxKernelText _text;
    private readonly Dictionary<string, int> _numbers = new(StringComparer.Ordinal);
    private readonly List<string> _names = [];
    private readonly List<int> _widths = [];
    private readonly Dictionary<string, int> _offsets = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _predicates = new(StringComparer.Ordinal);

    public RegisterAllocation(PtxKernelText text)
    {
        _text = text;
        Allocate();
    }

    /// <summary>Of all rows.</summary>
    public int Bytes { get; private set; }

    /// <summary>Predicates and the one that holds everywhere, which is number 0.</summary>
    public int Predicates => _predicates.Count + 1;

    /// <summary>Registers that may be read before they are written, with their rows.</summary>
    public List<(string Name, int Offset, int Bytes)> Unwritten { get; } = [];

    /// <summary>Predicates that may be read before they are written.</summary>
    public List<int> UnwrittenPredicates { get; } = [];

    /// <summary>The offset of a register's row.</summary>
    public int RowOf(string name) => _offsets[name];

    public int PredicateOf(string name) => _predicates[name];

    private static bool IsProduct(PtxStatement statement) => statement.Opcode.StartsWith("wgmma.mma_async", StringComparison.Ordinal);

    private static int Width(string type) => type switch
    {
        "pred" => 0,
        "b16" or "u16" or "s16" or "f16" or "bf16" or "b32" or "u32" or "s32" or "f32" or "f16x2" or "bf16x2" => 1,
        "b64" or "u64" or "s64" or "f64" => 2,
        _ => throw new CudaEmulationException($"Registers of type .{type} are not known."),
    };

    private int NumberOf(string name)
    {
        if (_numbers.TryGetValue(name, out int number)) return number;
        if (_text.TypeOf(name) is not { } type) return -1;
        number = _names.Count;
        _numbers.Add(name, number);
        _names.Add(name);
        _widths.Add(Width(type));
        return number;
    }

    private void Allocate()
    {
        int count = _text.Statements.Count;
        var read = new int[count][];
        var written = new int[count][];
        for (int i = 0; i < count; i++)
        {
            PtxStatement statement = _text.Statements[i];
            read[i] = [.. StatementRoles.Read(statement).Select(NumberOf).Where(static n => n >= 0)];
            written[i] = [.. StatementRoles.Written(statement).Select(NumberOf).Where(static n => n >= 0)];
        }

        int[] first = [.. Enumerable.Repeat(int.MaxValue, _names.Count)], last = [.. Enumerable.Repeat(-1, _names.Count)];
        ulong[] atEntry = new Liveness(_text, read, written, _names.Count).Intervals(first, last);

        // Registers of asynchronous products are theirs until they have been waited for, whether anybody reads them or not: no row of theirs is shared meanwhile.
        int[] asynchronous = [.. Enumerable.Range(0, count).Where(i => IsProduct(_text.Statements[i])).SelectMany(i => read[i].Concat(written[i])).Where(n => _widths[n] == 1).Distinct()];
        if (asynchronous.Length > 0)
        {
            for (int i = 0; i < count; i++)
                if (_text.Statements[i].Opcode.StartsWith("wgmma.wait_group", StringComparison.Ordinal)) read[i] = [.. read[i], .. asynchronous];
            new Liveness(_text, read, written, _names.Count).Intervals(first, last);
        }

        for (int n = 0; n < _names.Count; n++)
        {
            if (_widths[n] != 0) continue;
            _predicates.Add(_names[n], _predicates.Count + 1);
            if (Liveness.Has(atEntry, n)) UnwrittenPredicates.Add(_predicates[_names[n]]);
        }

        int[] rows = new int[_names.Count];
        int narrow = Scan(first, last, rows, 1), wide = Scan(first, last, rows, 2);
        for (int n = 0; n < _names.Count; n++)
        {
            if (_widths[n] == 0) continue;
            int bytes = _widths[n] * RowBytes, offset = (_widths[n] == 2 ? narrow * RowBytes : 0) + (rows[n] * bytes);
            _offsets.Add(_names[n], offset);
            if (Liveness.Has(atEntry, n)) Unwritten.Add((_names[n], offset, bytes));
        }

        Bytes = (narrow + (2 * wide)) * RowBytes;
    }

    /// <summary>Rows for registers of one width; how many they take.</summary>
    private int Scan(int[] first, int[] last, int[] rows, int width)
    {
        int used = 0;
        var free = new Stack<int>();
        var living = new PriorityQueue<int, int>();
        foreach (int n in Enumerable.Range(0, _names.Count).Where(n => _widths[n] == width).OrderBy(n => first[n]))
        {
            while (living.TryPeek(out int ended, out int end) && end < first[n]) free.Push(rows[living.Dequeue()]);
            rows[n] = free.TryPop(out int row) ? row : used++;
            living.Enqueue(n, last[n]);
        }

        return used;
    }
}

/// <summary>Where registers live: from the statement that writes them to the last that may read that.</summary>
internal sealed class Liveness
{
    private readonly int[][] _read;
    private readonly int[][] _written;
    private readonly int _words;
    private readonly List<int> _starts = [];
    private readonly List<int>[] _next;
    private readonly int _count;

    public Liveness(PtxKernelText text, int[][] read, int[][] written, int registers)
    {
        (_read, _written, _words, _count) = (read, written, (registers + 63) / 64, text.Statements.Count);
        var starts = new SortedSet<int> { 0 };
        foreach (int label in text.Labels.Values)
            if (label < _count) starts.Add(label);
        for (int i = 0; i + 1 < _count; i++)
            if (IsBranch(text.Statements[i]) || IsEnd(text.Statements[i])) starts.Add(i + 1);
        _starts.AddRange(starts);
        _next = new List<int>[_starts.Count];
        for (int block = 0; block < _starts.Count; block++)
        {
            PtxStatement ending = text.Statements[EndOf(block) - 1];
            _next[block] = [];
            if (IsBranch(ending) && ending.Operands is [NameOperand label])
            {
                if (!text.Labels.TryGetValue(label.Name, out int target)) throw new CudaEmulationException($"Line {ending.Line} of the PTX text: there is no label {label.Name}.");
                if (target < _count) _next[block].Add(_starts.BinarySearch(target));
            }

            if (block + 1 < _starts.Count && (ending.Guard is not null || !(IsBranch(ending) || IsEnd(ending)))) _next[block].Add(block + 1);
        }
    }

    public static bool Has(ulong[] set, int number) => (set[number >> 6] >> number & 1) != 0;

    /// <summary>The first and the last statement at which each register lives.</summary>
    /// <returns>Those that live at the entry.</returns>
    public ulong[] Intervals(int[] first, int[] last)
    {
        ulong[][] generated = new ulong[_starts.Count][], killed = new ulong[_starts.Count][], living = new ulong[_starts.Count][], leaving = new ulong[_starts.Count][];
        for (int block = 0; block < _starts.Count; block++)
        {
            (generated[block], killed[block], living[block], leaving[block]) = (new ulong[_words], new ulong[_words], new ulong[_words], new ulong[_words]);
            for (int i = _starts[block]; i < EndOf(block); i++)
            {
                foreach (int n in _read[i])
                    if (!Has(killed[block], n)) Set(generated[block], n);
                foreach (int n in _written[i]) Set(killed[block], n);
            }
        }

        for (bool changes = true; changes;)
        {
            changes = false;
            for (int block = _starts.Count - 1; block >= 0; block--)
            {
                foreach (int next in _next[block])
                    for (int w = 0; w < _words; w++) leaving[block][w] |= living[next][w];
                for (int w = 0; w < _words; w++)
                {
                    ulong live = generated[block][w] | (leaving[block][w] & ~killed[block][w]);
                    changes |= live != living[block][w];
                    living[block][w] = live;
                }
            }
        }

        for (int block = 0; block < _starts.Count; block++)
        {
            ForEach(living[block], n => Extend(first, last, n, _starts[block]));
            ForEach(leaving[block], n => Extend(first, last, n, EndOf(block)));
            for (int i = _starts[block]; i < EndOf(block); i++)
            {
                foreach (int n in _read[i]) Extend(first, last, n, i);
                foreach (int n in _written[i]) Extend(first, last, n, i);
            }
        }

        return _starts.Count == 0 ? new ulong[_words] : living[0];
    }

    private static bool IsBranch(PtxStatement statement) => statement.Opcode is "bra" or "bra.uni";

    private static bool IsEnd(PtxStatement statement) => statement.Opcode is "exit" or "ret" or "trap";

    private static void Set(ulong[] set, int number) => set[number >> 6] |= 1UL << number;

    private static void Extend(int[] first, int[] last, int register, int at)
    {
        first[register] = Math.Min(first[register], at);
        last[register] = Math.Max(last[register], at);
    }

    private static void ForEach(ulong[] set, Action<int> action)
    {
        for (int w = 0; w < set.Length; w++)
            for (ulong bits = set[w]; bits != 0; bits &= bits - 1) action((w << 6) + BitOperations.TrailingZeroCount(bits));
    }

    private int EndOf(int block) => block + 1 < _starts.Count ? _starts[block + 1] : _count;
}
