using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using FusedAttention.Cpu.Decode;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Prefill;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;

namespace FusedAttention.Benchmarks;

/// <summary>
/// The pieces of both algorithms on one tile of keys that stays in the second-level cache, behind virtual calls, so that public benchmark classes need not name internal types. The
/// only file here that knows the kernels' signatures.
/// </summary>
internal abstract class TileKernels : IDisposable
{
    public const int Keys = PrefillTiles.Keys;
    public const int Dim = 128;

    public static TileKernels Create(CpuInstructionSet set) => set switch
    {
        CpuInstructionSet.Avx512 => new Of<Avx512Simd, Vector512<float>, RegisterTile14x2<Avx512Simd, Vector512<float>>>(),
        CpuInstructionSet.Avx2 => new Of<Avx2Simd, Vector256<float>, RegisterTile6x2<Avx2Simd, Vector256<float>>>(),
        CpuInstructionSet.Vector128 when AdvSimd.Arm64.IsSupported => new Of<Vector128Simd, Vector128<float>, RegisterTile14x2<Vector128Simd, Vector128<float>>>(),
        CpuInstructionSet.Vector128 => new Of<Vector128Simd, Vector128<float>, RegisterTile6x2<Vector128Simd, Vector128<float>>>(),
        _ => new Of<ScalarSimd, float, RegisterTile6x2<ScalarSimd, float>>(),
    };

    /// <summary>exp2 of a tile of numbers, load and store included.</summary>
    public abstract void Exp2Pass();

    /// <summary>A tile of elements to single precision.</summary>
    public abstract void Widen(AttentionElementType type);

    /// <summary>A tile of keys and their values to the form that register tiles read.</summary>
    public abstract void Pack(AttentionElementType type);

    /// <summary>Scores of as many rows as the register tile has with a tile of keys.</summary>
    public abstract void Scores();

    /// <summary>The same rows' outputs from a tile of values.</summary>
    public abstract void Outputs();

    /// <summary>One query with a tile of keys in place.</summary>
    public abstract void DotProducts(AttentionElementType type);

    /// <summary>Multiply-adds of <see cref="Scores"/> and of <see cref="Outputs"/>.</summary>
    public abstract long TileMultiplyAdds { get; }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);

    private sealed unsafe class Of<TS, TV, TTile> : TileKernels
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        where TTile : struct, IRegisterTile
    {
        private const int TileElements = Keys * Dim;

        private readonly float* _query = Allocate(PrefillTiles.StripRows * 2 * Dim);
        private readonly float* _key = Allocate(TileElements);
        private readonly float* _value = Allocate(TileElements);
        private readonly float* _packedKey = Allocate(TileElements);
        private readonly float* _packedValue = Allocate(TileElements);
        private readonly float* _scores = Allocate(PrefillTiles.StripRows * 2 * Keys);
        private readonly float* _output = Allocate(PrefillTiles.StripRows * 2 * Dim);
        private readonly float* _temporary = Allocate(TileElements);
        private readonly nint* _rows = (nint*)NativeMemory.AlignedAlloc(2 * Keys * (nuint)sizeof(nint), 64);
        private readonly AttentionProblem _problem = new() { KeyDim = Dim, ValueDim = Dim, KeyHeadStride = Dim, ValueHeadStride = Dim };

        public override long TileMultiplyAdds => (long)TTile.Rows * TileElements;

        public override void Exp2Pass()
        {
            for (int i = 0; i < TileElements; i += TS.Width) TS.Store(_temporary + i, Elementary<TS, TV>.Exp2(TS.Load(_key + i)));
        }

        public override void Widen(AttentionElementType type) => RowConversion<TS, TV>.Widen(type, (byte*)_key, _temporary, TileElements);

        public override void Pack(AttentionElementType type)
        {
            _problem.KeyValueType = type;
            Locate(type);
            KeyValuePacking<TS, TV>.Pack(_problem, head: 0, 0, Keys, _rows, _rows + Keys, _packedKey, _packedValue, _temporary, narrow: null);
        }

        public override void Scores()
        {
            int panel = 2 * TS.Width;
            for (int j = 0; j < Keys; j += panel) TTile.Scores(_query, _packedKey + (j * Dim), _scores + j, Dim, accumulate: false);
        }

        public override void Outputs()
        {
            int panel = 2 * TS.Width;
            for (int d = 0; d < Dim; d += panel) TTile.Accumulate(_scores, _packedValue + (d * Keys), _output + d, Dim, Keys);
        }

        public override void DotProducts(AttentionElementType type)
        {
            Locate(type);
            for (int j = 0; j < Keys; j += 8)
            {
                switch (type)
                {
                    case AttentionElementType.Float32: DotProducts<TS, TV, Float32Element>.OneRow(_query, _rows + j, 0, Dim, _scores + j, 1); break;
                    case AttentionElementType.Float16: DotProducts<TS, TV, UnrebasedFloat16Element>.OneRow(_query, _rows + j, 0, Dim, _scores + j, 1); break;
                    default: DotProducts<TS, TV, BFloat16Element>.OneRow(_query, _rows + j, 0, Dim, _scores + j, 1); break;
                }
            }
        }

        protected override void Dispose(bool disposing)
        {
            foreach (nint memory in (ReadOnlySpan<nint>)[(nint)_query, (nint)_key, (nint)_value, (nint)_packedKey, (nint)_packedValue, (nint)_scores, (nint)_output, (nint)_temporary, (nint)_rows])
                NativeMemory.AlignedFree((void*)memory);
        }

        /// <summary>Numbers from 0 to 1, which are finite in every element type that their bytes may be read as.</summary>
        private static float* Allocate(int count)
        {
            float* memory = (float*)NativeMemory.AlignedAlloc((nuint)count * sizeof(float), 64);
            for (int i = 0; i < count; i++) memory[i] = i % 1000 / 1000f;
            return memory;
        }

        private void Locate(AttentionElementType type)
        {
            int size = type == AttentionElementType.Float32 ? sizeof(float) : sizeof(ushort);
            for (int j = 0; j < Keys; j++)
            {
                _rows[j] = (nint)((byte*)_key + (j * Dim * size));
                _rows[Keys + j] = (nint)((byte*)_value + (j * Dim * size));
            }
        }
    }
}
