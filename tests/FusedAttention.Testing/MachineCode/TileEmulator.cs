using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using FusedAttention.Cpu.MachineCode.Kernels;
using Iced.Intel;
using Assembler = FusedAttention.Cpu.MachineCode.Assembler;

namespace FusedAttention.Testing;

/// <summary>Runs the code of tile products instruction by instruction, as the decoder reads it, on the process's own memory: for machines without tiles.</summary>
/// <remarks>Products are as the manual has them: pairs of bfloat16, the even element first, each sum rounded to nearest even, subnormals 0 on the way in and out. Vector instructions are the processor's own.</remarks>
internal sealed unsafe class TileEmulator : TileKernels
{
    private const int TileRows = 16;
    private const int RowBytes = 64;
    private const long BlockRegister = 7;      // rdi

    private readonly Code _scores;
    private readonly Code _sums;
    private readonly Code _stages;

    public TileEmulator((Assembler Scores, Assembler Sums, Assembler Stages) code) => (_scores, _sums, _stages) = (new(code.Scores), new(code.Sums), new(code.Stages));

    public override void Scores(TileScoresBlock* block) => new Run(_scores, block).ToReturn();

    public override void Sums(TileSumsBlock* block) => new Run(_sums, block).ToReturn();

    public override void Stages(TileStagesBlock* block) => new Run(_stages, block).ToReturn();

    private sealed class Code
    {
        private readonly Dictionary<ulong, int> _places = [];

        public Code(Assembler kernel)
        {
            Instructions = [.. Decoded.AssertSame(kernel)];
            for (int i = 0; i < Instructions.Length; i++) _places[Instructions[i].IP] = i;
        }

        public Instruction[] Instructions { get; }

        public int Place(ulong address) => _places[address];
    }

    private sealed class Run
    {
        private readonly Code _code;
        private readonly long[] _registers = new long[16];
        private readonly Vector512<float>[] _vectors = new Vector512<float>[32];
        private readonly bool[] _masks = new bool[8];
        private readonly byte[][] _tiles = [.. Enumerable.Range(0, 8).Select(static _ => new byte[TileRows * RowBytes])];
        private bool _isConfigured;
        private bool _isZero;
        private bool _isBelow;

        public Run(Code code, void* block)
        {
            _code = code;
            Array.Fill(_registers, 0x0BAD_0BAD_0BAD);
            Array.Fill(_vectors, Vector512.Create(float.NaN));
            _registers[BlockRegister] = (long)block;
        }

        public void ToReturn()
        {
            int at = 0;
            while (_code.Instructions[at].Mnemonic != Mnemonic.Ret) at = Step(_code.Instructions[at]) ?? at + 1;
            if (_isConfigured) throw new InvalidOperationException("Tiles are not released.");
        }

        /// <summary>Where it goes on, if not behind.</summary>
        private int? Step(in Instruction instruction)
        {
            switch (instruction.Mnemonic)
            {
                case Mnemonic.Endbr64 or Mnemonic.Vzeroupper or Mnemonic.Prefetcht1:
                    break;
                case Mnemonic.Mov:
                    if (instruction.Op0Kind == OpKind.Memory) *(long*)Address(instruction) = Value(instruction);
                    else _registers[Number(instruction.Op0Register)] = Value(instruction);
                    break;
                case Mnemonic.Add:
                    _registers[Number(instruction.Op0Register)] += Value(instruction);
                    break;
                case Mnemonic.Dec:
                    _isZero = --_registers[Number(instruction.Op0Register)] == 0;
                    break;
                case Mnemonic.Cmp:
                    ulong left = (ulong)_registers[Number(instruction.Op0Register)], right = (ulong)Value(instruction);
                    (_isZero, _isBelow) = (left == right, left < right);
                    break;
                case Mnemonic.Jne:
                    if (!_isZero) return _code.Place(instruction.NearBranchTarget);
                    break;
                case Mnemonic.Jb:
                    if (_isBelow) return _code.Place(instruction.NearBranchTarget);
                    break;
                case Mnemonic.Jae:
                    if (!_isBelow) return _code.Place(instruction.NearBranchTarget);
                    break;
                case Mnemonic.Ldtilecfg:
                    Configure((byte*)Address(instruction));
                    break;
                case Mnemonic.Tilerelease:
                    _isConfigured = false;
                    break;
                case Mnemonic.Tilezero:
                    Array.Clear(TileOf(instruction.Op0Register));
                    break;
                case Mnemonic.Tileloadd:
                    for (int r = 0; r < TileRows; r++) new ReadOnlySpan<byte>((byte*)RowAddress(instruction, r), RowBytes).CopyTo(TileOf(instruction.Op0Register).AsSpan(r * RowBytes));
                    break;
                case Mnemonic.Tilestored:
                    for (int r = 0; r < TileRows; r++) TileOf(instruction.Op1Register).AsSpan(r * RowBytes, RowBytes).CopyTo(new Span<byte>((byte*)RowAddress(instruction, r), RowBytes));
                    break;
                case Mnemonic.Tdpbf16ps:
                    Multiply(TileOf(instruction.Op0Register), TileOf(instruction.Op1Register), TileOf(instruction.Op2Register));
                    break;
                default:
                    StepOfVectors(instruction);
                    break;
            }

            return null;
        }

        private void StepOfVectors(in Instruction instruction)
        {
            switch (instruction.Mnemonic)
            {
                case Mnemonic.Vmovups when instruction.Op0Kind == OpKind.Memory:
                    _vectors[Number(instruction.Op1Register)].Store((float*)Address(instruction));
                    return;
                case Mnemonic.Vcmpps:
                    const int GreaterThan = 0x1E;
                    if (instruction.Immediate8 != GreaterThan) throw new NotSupportedException($"{instruction}");
                    _masks[Number(instruction.Op0Register)] = Vector512.GreaterThanAny(_vectors[Number(instruction.Op1Register)], Last(instruction));
                    return;
                case Mnemonic.Kortestw:
                    _isZero = !_masks[Number(instruction.Op0Register)] && !_masks[Number(instruction.Op1Register)];
                    return;
            }

            if (instruction.OpMask != Register.None) throw new NotSupportedException($"{instruction}");
            ref Vector512<float> d = ref _vectors[Number(instruction.Op0Register)];
            Vector512<float> a = instruction.Op1Kind == OpKind.Register ? _vectors[Number(instruction.Op1Register)] : default, b = Last(instruction);
            d = instruction.Mnemonic switch
            {
                Mnemonic.Vmovups or Mnemonic.Vmovaps or Mnemonic.Vbroadcastss => b,
                Mnemonic.Vxorps or Mnemonic.Vpxord when instruction.Op1Register == instruction.Op2Register => Vector512<float>.Zero,
                Mnemonic.Vaddps => a + b,
                Mnemonic.Vfmadd213ps => Avx512F.FusedMultiplyAdd(a, d, b),
                Mnemonic.Vreduceps when instruction.Immediate8 == 1 => Avx512DQ.Reduce(b, 1),
                Mnemonic.Vscalefps => Avx512F.Scale(a, b),
                Mnemonic.Vpaddd => (a.AsUInt32() + b.AsUInt32()).AsSingle(),
                Mnemonic.Vpmaxsd => Vector512.Max(a.AsInt32(), b.AsInt32()).AsSingle(),
                Mnemonic.Vpandd => (a.AsUInt32() & b.AsUInt32()).AsSingle(),
                Mnemonic.Vpord => (a.AsUInt32() | b.AsUInt32()).AsSingle(),
                Mnemonic.Vpsrld => (a.AsUInt32() >>> instruction.Immediate8).AsSingle(),
                _ => throw new NotSupportedException($"{instruction}"),
            };
        }

        /// <summary>The last operand that is no constant.</summary>
        private Vector512<float> Last(in Instruction instruction)
        {
            int last = instruction.OpCount - (instruction.GetOpKind(instruction.OpCount - 1) == OpKind.Immediate8 ? 2 : 1);
            return instruction.GetOpKind(last) == OpKind.Register ? _vectors[Number(instruction.GetOpRegister(last))]
                : instruction.IsBroadcast || instruction.Mnemonic == Mnemonic.Vbroadcastss ? Vector512.Create(*(float*)Address(instruction))
                : Vector512.Load((float*)Address(instruction));
        }

        private static int Number(Register register) => register.GetNumber();

        private long Value(in Instruction instruction) => instruction.Op1Kind switch
        {
            OpKind.Register => _registers[Number(instruction.Op1Register)],
            OpKind.Memory => *(long*)Address(instruction),
            OpKind.Immediate32to64 => (long)instruction.GetImmediate(1),
            OpKind kind => throw new NotSupportedException($"{kind}"),
        };

        private long Address(in Instruction instruction) => _registers[Number(instruction.MemoryBase)] + (long)instruction.MemoryDisplacement64;

        /// <summary>Of a tile's row: the index register is how far rows are apart.</summary>
        private long RowAddress(in Instruction instruction, int row) => Address(instruction) + (row * _registers[Number(instruction.MemoryIndex)] * instruction.MemoryIndexScale);

        private byte[] TileOf(Register register) => _isConfigured ? _tiles[Number(register)] : throw new InvalidOperationException("Tiles are not configured.");

        private void Configure(byte* configuration)
        {
            bool whole = configuration[0] == 1 && configuration[1] == 0;
            for (int i = 0; i < 8; i++) whole &= *(ushort*)(configuration + 16 + (2 * i)) == RowBytes && configuration[48 + i] == TileRows;
            for (int i = 0; i < 16; i++) whole &= (i < 2 || configuration[i] == 0) && configuration[32 + i] == 0 && (i < 8 || configuration[48 + i] == 0);
            _isConfigured = whole ? true : throw new InvalidOperationException("The configuration is not eight whole tiles.");
        }

        private static void Multiply(byte[] c, byte[] a, byte[] b)
        {
            ReadOnlySpan<ushort> left = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, ushort>(a);
            fixed (byte* sums = c, right = b)
            {
                for (int m = 0; m < TileRows; m++)
                {
                    Vector512<float> sum = Vector512.Load((float*)sums + (m * 16));
                    for (int k = 0; k < 16; k++)
                    {
                        Vector512<uint> pairs = Vector512.Load((uint*)right + (k * 16));
                        sum = Flushed(Vector512.FusedMultiplyAdd(Vector512.Create(Widened(left[(m * 32) + (2 * k)])), Flushed((pairs << 16).AsSingle()), sum));
                        sum = Flushed(Vector512.FusedMultiplyAdd(Vector512.Create(Widened(left[(m * 32) + (2 * k) + 1])), Flushed((pairs & Vector512.Create(0xFFFF0000u)).AsSingle()), sum));
                    }

                    sum.Store((float*)sums + (m * 16));
                }
            }
        }

        private static float Widened(ushort bits) => float.IsSubnormal(BitConverter.Int32BitsToSingle(bits << 16)) ? 0 : BitConverter.Int32BitsToSingle(bits << 16);

        private static Vector512<float> Flushed(Vector512<float> x) => Vector512.ConditionalSelect(Vector512.LessThan(Vector512.Abs(x), Vector512.Create(1.17549435e-38f)), Vector512<float>.Zero, x);
    }
}
