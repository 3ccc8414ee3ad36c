using FusedAttention.Cpu.MachineCode;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>Instructions against bytes that the GNU assembler gave: what the decoder of the other tests takes for right is not its word alone.</summary>
public sealed class KnownEncodingTests
{
    private static readonly Gpr Rax = new(0), Rcx = new(1), Rbp = new(5), R8 = new(8), R9 = new(9), R12 = new(12), R13 = new(13);

    [Fact]
    public void Bytes_are_those_of_another_assembler()
    {
        Check("f30f1efa", static _ => { }, skip: 0, length: 4);
        Check("62e17c481008", static k => k.Vmovups(new Vec(17, 512), Rax + 0));
        Check("c4417c114de0", static k => k.Vmovups(R13 - 32, new Vec(9, 256)));
        Check("62d17ccb10448802", static k => k.Vmovups(new Vec(0, 512).OrZero(new(3)), (R8 + 128).Plus(Rcx, 4)));
        Check("62f27d48185003", static k => k.Vbroadcastss(new Vec(2, 512), Rax + 12));
        Check("62e20d50b84501", static k => k.Vfmadd231ps(new Vec(16, 512), new Vec(30, 512), (Rbp + 4).ToAllLanes()));
        Check("c4e21db8cb", static k => k.Vfmadd231ps(new Vec(1, 256), new Vec(12, 256), new Vec(3, 256)));
        Check("62c27d48136101", static k => k.Vcvtph2ps(new Vec(20, 512), R9 + 32));
        Check("c4c27d136910", static k => k.Vcvtph2ps(new Vec(5, 256), R9 + 16));
        Check("62e37d481d500204", static k => k.Vcvtps2ph(Rax + 64, new Vec(18, 512), 4));
        Check("62f37d4856d101", static k => k.Vreduceps(new Vec(2, 512), new Vec(1, 512), 1));
        Check("62626d482cf9", static k => k.Vscalefps(new Vec(31, 512), new Vec(2, 512), new Vec(1, 512)));
        Check("62f27d4d5a6003", static k => k.Vbroadcasti32x4(new Vec(4, 512).Where(new(5)), Rax + 48));
        Check("62f26d4852d9", static k => k.Vpdpwssd(new Vec(3, 512), new Vec(2, 512), new Vec(1, 512)));
        Check("c4e26d52d9", static k => k.Vpdpwssd(new Vec(3, 256), new Vec(2, 256), new Vec(1, 256)));
        Check("c5edf5d9", static k => k.Vpmaddwd(new Vec(3, 256), new Vec(2, 256), new Vec(1, 256)));
        Check("c4e26d02d9", static k => k.Vphaddd(new Vec(3, 256), new Vec(2, 256), new Vec(1, 256)));
        Check("62f2ed4836d9", static k => k.Vpermq(new Vec(3, 512), new Vec(2, 512), new Vec(1, 512)));
        Check("62f16c48c2e10e", static k => k.Vcmpps(new KMask(4), new Vec(2, 512), new Vec(1, 512), 14));
        Check("c4c17892d1", static k => k.Kmovw(new KMask(2), R9.Low));
        Check("c5f898d1", static k => k.Kortestw(new(2), new(1)));
        Check("c4e278494040", static k => k.Ldtilecfg(Rax + 64));
        Check("c4e27b49e8", static k => k.Tilezero(new(5)));
        Check("c4e27b4b740808", static k => k.Tileloadd(new(6), (Rax + 8).Plus(Rcx)));
        Check("c4827a4b1c0c", static k => k.Tilestored((R12 + 0).Plus(R9), new(3)));
        Check("c4e2625cca", static k => k.Tdpbf16ps(new(1), new(2), new(3)));
        Check("c4e2435ee0", static k => k.Tdpbssd(new(4), new(0), new(7)));
        Check("498b442408", static k => k.Mov(Rax, R12 + 8));
        Check("49c74500fbffffff", static k => k.Mov(R13 + 0, -5));
        Check("4e8d844800010000", static k => k.Lea(R8, (Rax + 256).Plus(R9, 2)));
        Check("410f1888c0000000", static k => k.Prefetcht0(R8 + 192));
        Check("49c1e103", static k => k.Shl(R9, 3));
        Check("48ff4928", static k => k.Dec(Rcx + 40));
        Check("c4e27849c0c5f877c3", static k => k.Return(releaseTiles: true));
    }

    private static void Check(string bytes, Action<Assembler> emit, int skip = 7, int? length = null)
    {
        // Before it stand endbr64 and the move of the block.
        var kernel = new Assembler("k", CallingConvention.SystemV);
        emit(kernel);
        Assert.Equal(length is null ? skip + (bytes.Length / 2) : 7, kernel.ToArray().Length);
        Assert.Equal(bytes, Convert.ToHexStringLower(kernel.ToArray().AsSpan(skip)[..(length ?? bytes.Length / 2)]));
    }
}
