using System.Globalization;
using System.Text;

namespace FusedAttention.Cuda.Ptx;

/// <summary>
/// One kernel being written: instructions in order, each with typed operands. What is written is C# that reads like the algorithm; what comes out (<see cref="ToString"/>) is a module of PTX with the
/// kernel's own names.
/// </summary>
/// <remarks>PTX has as many registers as anyone asks for, and the assembler removes moves: so results get fresh registers, and variables that loops change are assigned to.</remarks>
/// <param name="name">The entry point.</param>
/// <param name="target">What it is assembled for.</param>
/// <param name="threads">Of a block.</param>
/// <param name="blocks">Blocks that are to fit a multiprocessor: what registers are rationed by.</param>
/// <param name="parameterBytes">Of the one parameter.</param>
internal sealed partial class PtxKernel(string name, PtxTarget target, int threads, int blocks, int parameterBytes)
{
    private const string ParameterName = "call";
    private const string SharedName = "shared_memory";

    /// <summary>Bytes of parameters that texts before version 8.1 may have.</summary>
    private const int LongestShortParameters = 4352;

    private readonly List<Line> _lines = [];
    private readonly List<Value> _registers = [];
    private readonly Dictionary<string, int> _numbers = [];
    private readonly Dictionary<string, int> _names = [];
    private readonly List<string> _head = [];
    private Predicate? _guard;
    private int _depth;

    public PtxTarget Target { get; } = target;

    public int Threads { get; } = threads;

    /// <summary>Blocks that are to fit a multiprocessor.</summary>
    public int Blocks { get; } = blocks;

    /// <summary>What the parameter's address is a multiple of: 64 where it holds tensor maps.</summary>
    public int ParameterAlignment { get; init; } = 16;

    /// <summary>Numbers a fresh register.</summary>
    public int Register(Value register)
    {
        _registers.Add(register);
        int number = _numbers.GetValueOrDefault(register.Prefix);
        _numbers[register.Prefix] = number + 1;
        return number;
    }

    /// <summary>A name that no other register has.</summary>
    public string Unique(string name)
    {
        int count = _names.GetValueOrDefault(name);
        _names[name] = count + 1;
        return count == 0 ? name : string.Create(CultureInfo.InvariantCulture, $"{name}_{count + 1}");
    }

    /// <summary>Writes an instruction.</summary>
    public void Emit(string opcode, params ReadOnlySpan<Value> operands) => _lines.Add(new(opcode, [.. operands], _guard, _depth));

    /// <summary>Writes an instruction whose operands are not all values: addresses, labels.</summary>
    public void EmitText(string opcode, params ReadOnlySpan<object> operands) => _lines.Add(new(opcode, [.. operands], _guard, _depth));

    /// <summary>A line of explanation in the text.</summary>
    public void Comment(string text) => _lines.Add(new(string.Empty, [text], null, _depth));

    /// <summary>A variable, for what loops change.</summary>
    public I32 Variable(string name, I32 value)
    {
        I32 variable = I32.In(this).As(name);
        variable.Set(value);
        return variable;
    }

    /// <inheritdoc cref="Variable(string, I32)"/>
    public I64 Variable(string name, I64 value)
    {
        I64 variable = I64.In(this).As(name);
        variable.Set(value);
        return variable;
    }

    /// <inheritdoc cref="Variable(string, I32)"/>
    public F32 Variable(string name, F32 value)
    {
        F32 variable = F32.In(this).As(name);
        variable.Set(value);
        return variable;
    }

    /// <inheritdoc cref="Variable(string, I32)"/>
    public Predicate Variable(string name, bool value)
    {
        Predicate variable = Predicate.In(this).As(name);
        variable.Set(value);
        return variable;
    }

    /// <summary>As many variables, with the numbers behind their name.</summary>
    public F32[] Variables(string name, int count, F32 value)
    {
        var variables = new F32[count];
        for (int i = 0; i < count; i++) variables[i] = Variable(string.Create(CultureInfo.InvariantCulture, $"{name}{i}"), value);
        return variables;
    }

    /// <summary>As many registers without a value, with the numbers behind their name.</summary>
    public T[] Registers<T>(string name, int count)
        where T : Value, IValue<T>
    {
        var registers = new T[count];
        for (int i = 0; i < count; i++) registers[i] = T.In(this).As(string.Create(CultureInfo.InvariantCulture, $"{name}{i}"));
        return registers;
    }

    /// <summary>Instructions written by <paramref name="body"/> take effect only where <paramref name="condition"/> holds: for a few, a branch costs more.</summary>
    public void Where(Predicate condition, Action body)
    {
        if (_guard is not null) throw new InvalidOperationException("Guards do not nest.");
        _guard = condition;
        body();
        _guard = null;
    }

    /// <summary>The module's text.</summary>
    public override string ToString()
    {
        var text = new StringBuilder(_lines.Count * 48);
        // 7.8 is the lowest version that has all of sm_90a and the address of a parameter: drivers from CUDA 11.8 on know it. Hopper's instructions came with 8.0, and long parameters with 8.1.
        string version = parameterBytes > LongestShortParameters ? "8.1" : Target == PtxTarget.Sm80 ? "7.8" : "8.0";
        text.Append(CultureInfo.InvariantCulture, $".version {version}\n.target {(Target == PtxTarget.Sm80 ? "sm_80" : "sm_90a")}\n.address_size 64\n\n");
        text.Append(CultureInfo.InvariantCulture, $".extern .shared .align 1024 .b8 {SharedName}[];\n\n");
        text.Append(CultureInfo.InvariantCulture, $".visible .entry {name}(\n    .param .align {ParameterAlignment} .b8 {ParameterName}[{parameterBytes}])\n");
        text.Append(CultureInfo.InvariantCulture, $".reqntid {Threads}, 1, 1\n.minnctapersm {Blocks}\n{{\n");
        foreach (string line in _head) text.Append("    ").Append(line).Append('\n');
        Declare(text);
        foreach (Line line in _lines) line.AppendTo(text);
        return text.Append("}\n").ToString();
    }

    private void Declare(StringBuilder text)
    {
        foreach (IGrouping<(string Declaration, string Prefix), Value> group in _registers.GroupBy(static register => (register.Declaration, register.Prefix)))
        {
            if (group.Any(static register => register.Name is null))
                text.Append(CultureInfo.InvariantCulture, $"    .reg {group.Key.Declaration} %{group.Key.Prefix}<{_numbers[group.Key.Prefix]}>;\n");
            foreach (Value[] named in group.Where(static register => register.Name is not null).Chunk(12))
                text.Append(CultureInfo.InvariantCulture, $"    .reg {group.Key.Declaration} {string.Join(", ", (IEnumerable<Value>)named)};\n");
        }
    }

    /// <summary>An instruction; without an opcode, a comment; with a colon for opcode, a label.</summary>
    private readonly record struct Line(string Opcode, object[] Operands, Predicate? Guard, int Depth)
    {
        public const string Label = ":";

        public void AppendTo(StringBuilder text)
        {
            if (Opcode is Label)
            {
                text.Append(Operands[0]).Append(":\n");
                return;
            }

            text.Append(' ', 4 + (4 * Depth));
            if (Opcode.Length == 0)
            {
                text.Append("// ").Append(Operands[0]).Append('\n');
                return;
            }

            if (Guard is not null) text.Append(Guard.Guard).Append(' ');
            text.Append(Opcode);
            for (int i = 0; i < Operands.Length; i++) text.Append(i == 0 ? " " : ", ").Append(Operands[i]);
            text.Append(";\n");
        }
    }
}
