namespace FusedAttention.Cuda.Emulation.Syntax;

/// <summary>From text to statements: the language of modules with one entry and no functions.</summary>
internal sealed class PtxParser
{
    private readonly PtxLexer _lexer;
    private readonly List<PtxShared> _shared = [];
    private string _target = "";

    private PtxParser(string text) => _lexer = new(text);

    /// <exception cref="CudaEmulationException">The text is not of this language; the message has the line.</exception>
    public static PtxKernelText Parse(string text, string entryPoint)
    {
        var parser = new PtxParser(text);
        return parser.Module(entryPoint);
    }

    private PtxKernelText Module(string entryPoint)
    {
        PtxKernelText? found = null;
        while (!_lexer.IsAtEnd)
        {
            string directive = _lexer.Name();
            switch (directive)
            {
                case ".version": _lexer.Number(); break;
                case ".target": _target = _lexer.Name(); while (_lexer.Take(',')) _lexer.Name(); break;
                case ".address_size": _lexer.Number(); break;
                case ".extern" or ".visible" or ".weak": break;
                case ".shared": Shared(_shared); break;
                case ".entry":
                    PtxKernelText kernel = Entry();
                    if (string.Equals(kernel.Name, entryPoint, StringComparison.Ordinal)) found = kernel;
                    break;
                default: throw _lexer.Error($"directive {directive} is not known");
            }
        }

        return found ?? throw new CudaEmulationException($"The PTX text has no entry {entryPoint}.");
    }

    private void Shared(List<PtxShared> into)
    {
        int alignment = 1;
        string type = _lexer.Name();
        if (type is ".align")
        {
            alignment = Integer();
            type = _lexer.Name();
        }

        int bytes = BytesOf(type.TrimStart('.'));
        alignment = Math.Max(alignment, bytes);
        string name = _lexer.Name();
        if (_lexer.Take('['))
        {
            bytes = _lexer.Next == ']' ? 0 : bytes * Integer();
            _lexer.Expect(']');
        }

        _lexer.Expect(';');
        into.Add(new(name, alignment, bytes));
    }

    private PtxKernelText Entry()
    {
        var kernel = new PtxKernelText { Name = _lexer.Name(), Target = _target };
        kernel.Shared.AddRange(_shared);
        if (_lexer.Take('('))
        {
            while (!_lexer.Take(')'))
            {
                Parameter(kernel);
                _lexer.Take(',');
            }
        }

        while (!_lexer.Take('{'))
        {
            string directive = _lexer.Name();
            int value = Integer();
            while (_lexer.Take(',')) value *= Integer();
            switch (directive)
            {
                case ".reqntid": kernel.RequiredThreads = value; break;
                case ".maxntid": kernel.MostThreads = value; break;
                case ".minnctapersm" or ".maxnreg": break;
                default: throw _lexer.Error($"directive {directive} of an entry is not known");
            }
        }

        while (!_lexer.Take('}')) Statement(kernel);
        return kernel;
    }

    private void Parameter(PtxKernelText kernel)
    {
        string directive = _lexer.Name();
        if (directive is not ".param") throw _lexer.Error($".param is expected, and {directive} is there");
        int alignment = 1;
        string type = _lexer.Name();
        if (type is ".align")
        {
            alignment = Integer();
            type = _lexer.Name();
        }

        int bytes = BytesOf(type.TrimStart('.'));
        alignment = Math.Max(alignment, bytes);
        string name = _lexer.Name();
        if (_lexer.Take('['))
        {
            bytes *= Integer();
            _lexer.Expect(']');
        }

        kernel.Parameters.Add(new(name, (kernel.ParameterBytes + alignment - 1) / alignment * alignment, bytes));
    }

    private void Statement(PtxKernelText kernel)
    {
        int line = _lexer.Line;
        string? guard = null;
        bool isNegated = false;
        if (_lexer.Take('@'))
        {
            isNegated = _lexer.Take('!');
            guard = _lexer.Name();
        }

        string name = _lexer.Name();
        if (guard is null)
        {
            switch (name)
            {
                case ".reg": Registers(kernel); return;
                case ".shared": Shared(kernel.Shared); return;
                case ".pragma": while (!_lexer.Take(';')) SkipOne(); return;
            }

            if (_lexer.IsAtLabelColon())
            {
                _lexer.Expect(':');
                if (!kernel.Labels.TryAdd(name, kernel.Statements.Count)) throw _lexer.Error($"label {name} is there twice");
                return;
            }
        }

        string opcode = name + _lexer.RestOfOpcode();
        var operands = new List<Operand>();
        while (!_lexer.Take(';'))
        {
            if (operands.Count > 0) _lexer.Expect(',');
            operands.Add(OneOrTwo());
        }

        kernel.Statements.Add(new(line, guard, isNegated, opcode, [.. operands]));
    }

    private void SkipOne()
    {
        if (_lexer.IsAtEnd) throw _lexer.Error("a directive has no end");
        _lexer.Take(_lexer.Next);
    }

    private void Registers(PtxKernelText kernel)
    {
        string type = _lexer.Name().TrimStart('.');
        do
        {
            string name = _lexer.Name();
            int count = -1;
            if (_lexer.Take('<'))
            {
                count = Integer();
                _lexer.Expect('>');
            }

            if (!kernel.Registers.TryAdd(name, new(type, count))) throw _lexer.Error($"register {name} is declared twice");
        }
        while (_lexer.Take(','));
        _lexer.Expect(';');
    }

    private Operand OneOrTwo()
    {
        Operand first = Operand();
        return _lexer.Take('|') ? new PairOperand(first, Operand()) : first;
    }

    private Operand Operand()
    {
        char next = _lexer.Next;
        if (next == '{') return new VectorOperand(List());
        if (next == '[') return Address();
        if (next == '!')
        {
            _lexer.Expect('!');
            return new NotOperand(_lexer.Name());
        }

        if (next == '-' || char.IsAsciiDigit(next)) return _lexer.Number();
        string name = _lexer.Name();
        return name is "_" ? new SinkOperand() : new NameOperand(name);
    }

    private Operand[] List()
    {
        var elements = new List<Operand>();
        _lexer.Expect('{');
        do
        {
            elements.Add(Operand());
        }
        while (_lexer.Take(','));
        _lexer.Expect('}');
        return [.. elements];
    }

    private AddressOperand Address()
    {
        _lexer.Expect('[');
        Operand @base = Operand();
        long offset = 0;
        Operand[]? coordinates = null;
        if (_lexer.Take('+') || _lexer.Next == '-') offset = ((IntegerOperand)_lexer.Number()).Value;
        if (_lexer.Take(',')) coordinates = List();
        _lexer.Expect(']');
        return new(@base, offset, coordinates);
    }

    private int Integer() => _lexer.Number() is IntegerOperand { Value: >= 0 and <= int.MaxValue } number ? (int)number.Value : throw _lexer.Error("a number of items is expected");

    private int BytesOf(string type) => type switch
    {
        "b8" or "u8" or "s8" => 1,
        "b16" or "u16" or "s16" or "f16" or "bf16" => 2,
        "b32" or "u32" or "s32" or "f32" => 4,
        "b64" or "u64" or "s64" or "f64" => 8,
        _ => throw _lexer.Error($"type .{type} is not known"),
    };
}
