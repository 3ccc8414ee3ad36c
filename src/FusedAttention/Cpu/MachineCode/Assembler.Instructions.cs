namespace FusedAttention.Cpu.MachineCode;

/// <summary>The instructions by their names, each with the operands that it takes.</summary>
internal sealed partial class Assembler
{
    public void Vmovups(Vec d, Mem s) => Emit(Forms.VmovupsLoad, d, s);

    public void Vmovups(Mem d, Vec s) => Emit(Forms.VmovupsStore, d, s);

    public void Vmovaps(Vec d, Vec s) => Emit(Forms.Vmovaps, d, s);

    /// <summary>All lanes 0; the processor takes no time for it.</summary>
    public void Zero(Vec d)
    {
        Operand low = d.Lower(128);
        if (d.Number < 16) Emit(Forms.Vxorps, low, low, low);
        else Emit(Forms.Vpxord, d, d, d);
    }

    public void Vbroadcastss(Vec d, Source s) => Emit(Forms.Vbroadcastss, d, Lowest(s));

    public void Vpbroadcastd(Vec d, Source s) => Emit(Forms.Vpbroadcastd, d, Lowest(s));

    public void Vpbroadcastd(Vec d, Gpr32 s) => Emit(Forms.VpbroadcastdGpr, d, s);

    public void Vbroadcasti32x4(Vec d, Mem s) => Emit(Forms.Vbroadcasti32x4, d, s);

    /// <summary>A quarter of 128 bits; the shorter form where there is one.</summary>
    public void Vextract(Mem d, Vec s, int quarter) => Emit(s.Bits == 512 || s.Number >= 16 ? Forms.Vextractf32x4 : Forms.Vextractf128, d, s, default, quarter);

    public void Vshufps(Vec d, Vec a, Source b, int order) => Emit(Forms.Vshufps, d, a, b.Operand, order);

    public void Vperm2f128(Vec d, Vec a, Source b, int order) => Emit(Forms.Vperm2f128, d, a, b.Operand, order);

    public void Vshuff32x4(Vec d, Vec a, Source b, int order) => Emit(Forms.Vshuff32x4, d, a, b.Operand, order);

    public void Vpermq(Vec d, Vec index, Source s) => Emit(Forms.Vpermq, d, index, s.Operand);

    public void Vpunpcklwd(Vec d, Vec a, Source b) => Emit(Forms.Vpunpcklwd, d, a, b.Operand);

    public void Vpunpckhwd(Vec d, Vec a, Source b) => Emit(Forms.Vpunpckhwd, d, a, b.Operand);

    public void Vpunpckldq(Vec d, Vec a, Source b) => Emit(Forms.Vpunpckldq, d, a, b.Operand);

    public void Vpunpckhdq(Vec d, Vec a, Source b) => Emit(Forms.Vpunpckhdq, d, a, b.Operand);

    public void Vpunpcklqdq(Vec d, Vec a, Source b) => Emit(Forms.Vpunpcklqdq, d, a, b.Operand);

    public void Vpunpckhqdq(Vec d, Vec a, Source b) => Emit(Forms.Vpunpckhqdq, d, a, b.Operand);

    public void Vaddps(Vec d, Vec a, Source b) => Emit(Forms.Vaddps, d, a, b.Operand);

    public void Vsubps(Vec d, Vec a, Source b) => Emit(Forms.Vsubps, d, a, b.Operand);

    public void Vmulps(Vec d, Vec a, Source b) => Emit(Forms.Vmulps, d, a, b.Operand);

    public void Vmaxps(Vec d, Vec a, Source b) => Emit(Forms.Vmaxps, d, a, b.Operand);

    public void Vhaddps(Vec d, Vec a, Source b) => Emit(Forms.Vhaddps, d, a, b.Operand);

    /// <summary>d = a * d + b.</summary>
    public void Vfmadd213ps(Vec d, Vec a, Source b) => Emit(Forms.Vfmadd213ps, d, a, b.Operand);

    /// <summary>d = a * b + d.</summary>
    public void Vfmadd231ps(Vec d, Vec a, Source b) => Emit(Forms.Vfmadd231ps, d, a, b.Operand);

    public void Vreduceps(Vec d, Source s, int how) => Emit(Forms.Vreduceps, d, s.Operand, default, how);

    public void Vscalefps(Vec d, Vec a, Source b) => Emit(Forms.Vscalefps, d, a, b.Operand);

    public void Vcvtph2ps(Vec d, Mem s) => Emit(Forms.Vcvtph2ps, d, s);

    public void Vcvtph2ps(Vec d, Vec s) => Emit(Forms.Vcvtph2ps, d, s.Lower((short)(d.Bits == 512 ? 256 : 128)));

    public void Vcvtps2ph(Mem d, Vec s, int rounding) => Emit(Forms.Vcvtps2ph, d, s, default, rounding);

    public void Vcvtps2dq(Vec d, Source s) => Emit(Forms.Vcvtps2dq, d, s.Operand);

    public void Vcvtdq2ps(Vec d, Source s) => Emit(Forms.Vcvtdq2ps, d, s.Operand);

    public void Vcvtne2ps2bf16(Vec d, Vec a, Source b) => Emit(Forms.Vcvtne2ps2bf16, d, a, b.Operand);

    public void Vpmovsxbw(Vec d, Mem s) => Emit(Forms.Vpmovsxbw, d, s);

    public void Vpmovsxbd(Vec d, Mem s) => Emit(Forms.Vpmovsxbd, d, s);

    public void Vpmovzxwd(Vec d, Mem s) => Emit(Forms.Vpmovzxwd, d, s);

    public void Vpaddd(Vec d, Vec a, Source b) => Emit(Forms.Vpaddd, d, a, b.Operand);

    public void Vphaddd(Vec d, Vec a, Source b) => Emit(Forms.Vphaddd, d, a, b.Operand);

    /// <summary>Sums of two neighbouring products of 16-bit integers.</summary>
    public void Vpmaddwd(Vec d, Vec a, Source b) => Emit(Forms.Vpmaddwd, d, a, b.Operand);

    /// <summary>The larger of 32-bit integers with a sign.</summary>
    public void Vpmaxsd(Vec d, Vec a, Source b) => Emit(Forms.Vpmaxsd, d, a, b.Operand);

    public void Vpandd(Vec d, Vec a, Source b) => Emit(Forms.Vpandd, d, a, b.Operand);

    public void Vpord(Vec d, Vec a, Source b) => Emit(Forms.Vpord, d, a, b.Operand);

    public void Vpxord(Vec d, Vec a, Source b) => Emit(Forms.Vpxord, d, a, b.Operand);

    public void Vpternlogd(Vec d, Vec a, Source b, int table) => Emit(Forms.Vpternlogd, d, a, b.Operand, table);

    public void Vpsrld(Vec d, Vec s, int bits) => Emit(Forms.Vpsrld, d, s, default, bits);

    public void Vpslld(Vec d, Vec s, int bits) => Emit(Forms.Vpslld, d, s, default, bits);

    /// <summary>The same, added to d.</summary>
    public void Vpdpwssd(Vec d, Vec a, Source b) => Emit(Forms.Vpdpwssd, d, a, b.Operand);

    public void Vpdpbusd(Vec d, Vec a, Source b) => Emit(Forms.Vpdpbusd, d, a, b.Operand);

    public void Vcmpps(KMask d, Vec a, Source b, int relation) => Emit(Forms.Vcmpps, d, a, b.Operand, relation);

    public void Kmovw(KMask d, Gpr32 s) => Emit(Forms.KmovwToMask, d, s);

    public void Kmovw(Gpr32 d, KMask s) => Emit(Forms.KmovwToGpr, d, s);

    public void Kortestw(KMask a, KMask b) => Emit(Forms.Kortestw, a, b);

    public void Ldtilecfg(Mem s) => Emit(Forms.Ldtilecfg, s);

    public void Tilezero(Tile d) => Emit(Forms.Tilezero, d);

    public void Tileloadd(Tile d, Mem s) => Emit(Forms.Tileloadd, d, s);

    /// <summary>For what will not be read again soon.</summary>
    public void Tileloaddt1(Tile d, Mem s) => Emit(Forms.Tileloaddt1, d, s);

    public void Tilestored(Mem d, Tile s) => Emit(Forms.Tilestored, d, s);

    /// <summary>C += A B of bfloat16: 16 rows of A by 16 columns of B, whose rows hold pairs.</summary>
    public void Tdpbf16ps(Tile c, Tile a, Tile b) => Emit(Forms.Tdpbf16ps, c, a, b);

    public void Tdpbssd(Tile c, Tile a, Tile b) => Emit(Forms.Tdpbssd, c, a, b);

    public void Mov(Gpr d, Word s) => Emit(Forms.MovLoad, d, s.Operand);

    public void Mov(Mem d, Gpr s) => Emit(Forms.MovStore, d, s);

    public void Mov(Gpr32 d, Mem s) => Emit(Forms.MovLoad32, d, s);

    public void Mov(Mem d, Gpr32 s) => Emit(Forms.MovStore32, d, s);

    public void Mov(Word d, int constant) => Emit(Forms.MovConstant, d.Operand, default, default, constant);

    public void Lea(Gpr d, Mem s) => Emit(Forms.Lea, d, s);

    public void Add(Gpr d, Word s) => Emit(Forms.Add, d, s.Operand);

    public void Add(Word d, int constant) => Emit(Forms.AddConstant, d.Operand, default, default, constant);

    public void Sub(Gpr d, Word s) => Emit(Forms.Sub, d, s.Operand);

    public void Sub(Word d, int constant) => Emit(Forms.SubConstant, d.Operand, default, default, constant);

    public void Cmp(Gpr a, Word b) => Emit(Forms.Cmp, a, b.Operand);

    public void Cmp(Word a, int constant) => Emit(Forms.CmpConstant, a.Operand, default, default, constant);

    public void Shl(Gpr d, int bits) => Emit(Forms.Shl, d, default, default, bits);

    public void Test(Gpr a, Gpr b) => Emit(Forms.Test, a, b);

    public void Dec(Word d) => Emit(Forms.Dec, d.Operand);

    public void Prefetcht0(Mem s) => Emit(Forms.Prefetcht0, s);

    public void Prefetcht1(Mem s) => Emit(Forms.Prefetcht1, s);

    public void Jmp(Label label) => Jump(Forms.Jmp, label);

    /// <summary>If below, of numbers without a sign.</summary>
    public void Jb(Label label) => Jump(Forms.Jb, label);

    public void Jae(Label label) => Jump(Forms.Jae, label);

    public void Je(Label label) => Jump(Forms.Je, label);

    public void Jne(Label label) => Jump(Forms.Jne, label);

    /// <summary>If less, of numbers with a sign.</summary>
    public void Jl(Label label) => Jump(Forms.Jl, label);

    public void Jg(Label label) => Jump(Forms.Jg, label);

    /// <summary>Register 0 of what the operating system keeps for a thread, to edx:eax; ecx has to be 0.</summary>
    public void Xgetbv() => Emit(Forms.Xgetbv);

    /// <summary>As a source of one element: the lowest 128 bits of a register.</summary>
    private static Operand Lowest(Source s) => s.Operand.IsMemory ? s.Operand : s.Operand with { Bits = 128 };
}
