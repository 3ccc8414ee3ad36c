using static FusedAttention.Cpu.MachineCode.OpcodeMap;
using static FusedAttention.Cpu.MachineCode.OpcodePrefix;

namespace FusedAttention.Cpu.MachineCode;

/// <summary>The table of instruction forms: all that kernels are made of.</summary>
internal static class Forms
{
    // Moving vectors.
    public static readonly Form VmovupsLoad = Either("vmovups", None, Map0F, 0x10, Roles.RegRm);
    public static readonly Form VmovupsStore = Either("vmovups", None, Map0F, 0x11, Roles.RmReg);
    public static readonly Form Vmovaps = Either("vmovaps", None, Map0F, 0x28, Roles.RegRm);
    public static readonly Form Vbroadcastss = Either("vbroadcastss", P66, Map0F38, 0x18, Roles.RegRm, memory: MemorySize.Bytes4);
    public static readonly Form Vpbroadcastd = Either("vpbroadcastd", P66, Map0F38, 0x58, Roles.RegRm, memory: MemorySize.Bytes4);
    public static readonly Form VpbroadcastdGpr = Evex("vpbroadcastd", P66, Map0F38, 0x7C, Roles.RegRm);
    public static readonly Form Vbroadcasti32x4 = Evex("vbroadcasti32x4", P66, Map0F38, 0x5A, Roles.RegRm, memory: MemorySize.Bytes16);
    public static readonly Form Vextractf128 = Vex("vextractf128", P66, Map0F3A, 0x19, Roles.RmReg, immediate: 1);
    public static readonly Form Vextractf32x4 = Evex("vextractf32x4", P66, Map0F3A, 0x19, Roles.RmReg, immediate: 1, memory: MemorySize.Bytes16);

    // Exchanging lanes.
    public static readonly Form Vshufps = Either("vshufps", None, Map0F, 0xC6, Roles.RegVvvvRm, immediate: 1, memory: MemorySize.VectorOrElement);
    public static readonly Form Vperm2f128 = Vex("vperm2f128", P66, Map0F3A, 0x06, Roles.RegVvvvRm, immediate: 1);
    public static readonly Form Vshuff32x4 = Evex("vshuff32x4", P66, Map0F3A, 0x23, Roles.RegVvvvRm, immediate: 1, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpermq = Evex("vpermq", P66, Map0F38, 0x36, Roles.RegVvvvRm, isWide: true);
    public static readonly Form Vpunpcklwd = Either("vpunpcklwd", P66, Map0F, 0x61, Roles.RegVvvvRm);
    public static readonly Form Vpunpckhwd = Either("vpunpckhwd", P66, Map0F, 0x69, Roles.RegVvvvRm);
    public static readonly Form Vpunpckldq = Either("vpunpckldq", P66, Map0F, 0x62, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpunpckhdq = Either("vpunpckhdq", P66, Map0F, 0x6A, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpunpcklqdq = Either("vpunpcklqdq", P66, Map0F, 0x6C, Roles.RegVvvvRm, isWide: true);
    public static readonly Form Vpunpckhqdq = Either("vpunpckhqdq", P66, Map0F, 0x6D, Roles.RegVvvvRm, isWide: true);

    // Arithmetic on floats.
    public static readonly Form Vaddps = Either("vaddps", None, Map0F, 0x58, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vsubps = Either("vsubps", None, Map0F, 0x5C, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vmulps = Either("vmulps", None, Map0F, 0x59, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vmaxps = Either("vmaxps", None, Map0F, 0x5F, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vhaddps = Vex("vhaddps", PF2, Map0F, 0x7C, Roles.RegVvvvRm);
    public static readonly Form Vxorps = Vex("vxorps", None, Map0F, 0x57, Roles.RegVvvvRm);
    public static readonly Form Vfmadd213ps = Either("vfmadd213ps", P66, Map0F38, 0xA8, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vfmadd231ps = Either("vfmadd231ps", P66, Map0F38, 0xB8, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vreduceps = Evex("vreduceps", P66, Map0F3A, 0x56, Roles.RegRm, immediate: 1, memory: MemorySize.VectorOrElement);
    public static readonly Form Vscalefps = Evex("vscalefps", P66, Map0F38, 0x2C, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);

    // Conversions.
    public static readonly Form Vcvtph2ps = Either("vcvtph2ps", P66, Map0F38, 0x13, Roles.RegRm, memory: MemorySize.Half);
    public static readonly Form Vcvtps2ph = Either("vcvtps2ph", P66, Map0F3A, 0x1D, Roles.RmReg, memory: MemorySize.Half, immediate: 1);
    public static readonly Form Vcvtps2dq = Either("vcvtps2dq", P66, Map0F, 0x5B, Roles.RegRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vcvtdq2ps = Either("vcvtdq2ps", None, Map0F, 0x5B, Roles.RegRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vcvtne2ps2bf16 = Evex("vcvtne2ps2bf16", PF2, Map0F38, 0x72, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpmovsxbw = Either("vpmovsxbw", P66, Map0F38, 0x20, Roles.RegRm, memory: MemorySize.Half);
    public static readonly Form Vpmovsxbd = Either("vpmovsxbd", P66, Map0F38, 0x21, Roles.RegRm, memory: MemorySize.Quarter);
    public static readonly Form Vpmovzxwd = Either("vpmovzxwd", P66, Map0F38, 0x33, Roles.RegRm, memory: MemorySize.Half);

    // Arithmetic on integers.
    public static readonly Form Vpaddd = Either("vpaddd", P66, Map0F, 0xFE, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vphaddd = Vex("vphaddd", P66, Map0F38, 0x02, Roles.RegVvvvRm);
    public static readonly Form Vpmaddwd = Either("vpmaddwd", P66, Map0F, 0xF5, Roles.RegVvvvRm);
    public static readonly Form Vpmaxsd = Either("vpmaxsd", P66, Map0F38, 0x3D, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpandd = Evex("vpandd", P66, Map0F, 0xDB, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpord = Evex("vpord", P66, Map0F, 0xEB, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpxord = Evex("vpxord", P66, Map0F, 0xEF, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpternlogd = Evex("vpternlogd", P66, Map0F3A, 0x25, Roles.RegVvvvRm, immediate: 1, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpsrld = Either("vpsrld", P66, Map0F, 0x72, Roles.VvvvRm, digit: 2, immediate: 1);
    public static readonly Form Vpslld = Either("vpslld", P66, Map0F, 0x72, Roles.VvvvRm, digit: 6, immediate: 1);
    public static readonly Form Vpdpwssd = Either("vpdpwssd", P66, Map0F38, 0x52, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);
    public static readonly Form Vpdpbusd = Evex("vpdpbusd", P66, Map0F38, 0x50, Roles.RegVvvvRm, memory: MemorySize.VectorOrElement);

    // Masks.
    public static readonly Form Vcmpps = Evex("vcmpps", None, Map0F, 0xC2, Roles.RegVvvvRm, immediate: 1, memory: MemorySize.VectorOrElement);
    public static readonly Form KmovwToMask = Vex("kmovw", None, Map0F, 0x92, Roles.RegRm);
    public static readonly Form KmovwToGpr = Vex("kmovw", None, Map0F, 0x93, Roles.RegRm);
    public static readonly Form Kortestw = Vex("kortestw", None, Map0F, 0x98, Roles.RegRm);

    // Tiles: the prefix tells most of them apart. Of a product, "reg" is C, "rm" A and "vvvv" B, which the processor wants to be three.
    public static readonly Form Ldtilecfg = Vex("ldtilecfg", None, Map0F38, 0x49, Roles.Rm);
    public static readonly Form Tilerelease = Vex("tilerelease", None, Map0F38, 0x49, Roles.None, suffix: 0xC0);
    public static readonly Form Tilezero = Vex("tilezero", PF2, Map0F38, 0x49, Roles.Reg);
    public static readonly Form Tileloadd = Vex("tileloadd", PF2, Map0F38, 0x4B, Roles.RegRm, needsIndexByte: true);
    public static readonly Form Tileloaddt1 = Vex("tileloaddt1", P66, Map0F38, 0x4B, Roles.RegRm, needsIndexByte: true);
    public static readonly Form Tilestored = Vex("tilestored", PF3, Map0F38, 0x4B, Roles.RmReg, needsIndexByte: true);
    public static readonly Form Tdpbf16ps = Vex("tdpbf16ps", PF3, Map0F38, 0x5C, Roles.RegRmVvvv);
    public static readonly Form Tdpbssd = Vex("tdpbssd", PF2, Map0F38, 0x5E, Roles.RegRmVvvv);

    // Addresses, counters, jumps.
    public static readonly Form MovLoad = General("mov", 0x8B, Roles.RegRm);
    public static readonly Form MovStore = General("mov", 0x89, Roles.RmReg);
    public static readonly Form MovLoad32 = General("mov", 0x8B, Roles.RegRm, isWide: false);
    public static readonly Form MovStore32 = General("mov", 0x89, Roles.RmReg, isWide: false);
    public static readonly Form MovConstant = General("mov", 0xC7, Roles.Rm, immediate: 4);
    public static readonly Form Lea = General("lea", 0x8D, Roles.RegRm);
    public static readonly Form Add = General("add", 0x03, Roles.RegRm);
    public static readonly Form AddConstant = General("add", 0x81, Roles.Rm, immediate: 4);
    public static readonly Form Sub = General("sub", 0x2B, Roles.RegRm);
    public static readonly Form SubConstant = General("sub", 0x81, Roles.Rm, digit: 5, immediate: 4);
    public static readonly Form Cmp = General("cmp", 0x3B, Roles.RegRm);
    public static readonly Form CmpConstant = General("cmp", 0x81, Roles.Rm, digit: 7, immediate: 4);
    public static readonly Form Shl = General("shl", 0xC1, Roles.Rm, digit: 4, immediate: 1);
    public static readonly Form Test = General("test", 0x85, Roles.RmReg);
    public static readonly Form Dec = General("dec", 0xFF, Roles.Rm, digit: 1);
    public static readonly Form Prefetcht0 = Legacy("prefetcht0", None, Map0F, 0x18, Roles.Rm, digit: 1);
    public static readonly Form Prefetcht1 = Legacy("prefetcht1", None, Map0F, 0x18, Roles.Rm, digit: 2);
    public static readonly Form Jmp = Legacy("jmp", None, OneByte, 0xE9, Roles.Target);
    public static readonly Form Jb = Legacy("jb", None, Map0F, 0x82, Roles.Target);
    public static readonly Form Jae = Legacy("jae", None, Map0F, 0x83, Roles.Target);
    public static readonly Form Je = Legacy("je", None, Map0F, 0x84, Roles.Target);
    public static readonly Form Jne = Legacy("jne", None, Map0F, 0x85, Roles.Target);
    public static readonly Form Jl = Legacy("jl", None, Map0F, 0x8C, Roles.Target);
    public static readonly Form Jg = Legacy("jg", None, Map0F, 0x8F, Roles.Target);

    // The ends of a kernel, and what the processor says of itself.
    public static readonly Form Ret = Legacy("ret", None, OneByte, 0xC3, Roles.None);
    public static readonly Form Vzeroupper = Vex("vzeroupper", None, Map0F, 0x77, Roles.None);
    public static readonly Form Endbr64 = Legacy("endbr64", PF3, Map0F, 0x1E, Roles.None, suffix: 0xFA);
    public static readonly Form Xgetbv = Legacy("xgetbv", None, Map0F, 0x01, Roles.None, suffix: 0xD0);

    private static Form Either(
        string name, OpcodePrefix prefix, OpcodeMap map, byte opcode, Roles roles, byte digit = 0, byte immediate = 0, MemorySize memory = MemorySize.Vector, bool isWide = false)
        => new(name, Spaces.Vex | Spaces.Evex, prefix, map, opcode, roles) { Digit = digit, Immediate = immediate, Memory = memory, IsWide = isWide };

    private static Form Vex(string name, OpcodePrefix prefix, OpcodeMap map, byte opcode, Roles roles, byte immediate = 0, byte? suffix = null, bool needsIndexByte = false)
        => new(name, Spaces.Vex, prefix, map, opcode, roles) { Immediate = immediate, Suffix = suffix, NeedsIndexByte = needsIndexByte };

    private static Form Evex(string name, OpcodePrefix prefix, OpcodeMap map, byte opcode, Roles roles, byte immediate = 0, MemorySize memory = MemorySize.Vector, bool isWide = false)
        => new(name, Spaces.Evex, prefix, map, opcode, roles) { Immediate = immediate, Memory = memory, IsWide = isWide };

    private static Form Legacy(string name, OpcodePrefix prefix, OpcodeMap map, byte opcode, Roles roles, byte digit = 0, byte? suffix = null)
        => new(name, Spaces.Legacy, prefix, map, opcode, roles) { Digit = digit, Suffix = suffix };

    private static Form General(string name, byte opcode, Roles roles, byte digit = 0, byte immediate = 0, bool isWide = true)
        => new(name, Spaces.Legacy, None, OneByte, opcode, roles) { Digit = digit, Immediate = immediate, IsWide = isWide };
}
