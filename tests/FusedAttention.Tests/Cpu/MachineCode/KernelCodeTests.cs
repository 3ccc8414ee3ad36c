using FusedAttention.Cpu.MachineCode;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;
using Iced.Intel;
using Xunit;
using Assembler = FusedAttention.Cpu.MachineCode.Assembler;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>Whole kernels read back: what the decoder sees is what was asked for, no register that a caller keeps is touched, there is no stack, and every path ends in the release of what was used and a return.</summary>
public sealed class KernelCodeTests
{
    private static readonly (string Name, CallingConvention Convention)[] Conventions = [("System V", CallingConvention.SystemV), ("Windows", CallingConvention.Windows)];

    public static TheoryData<string> Kernels => [.. All().Select(kernel => kernel.Name)];

    [Theory]
    [MemberData(nameof(Kernels))]
    public void A_kernel_keeps_the_rules(string name)
    {
        (_, CallingConvention convention, Func<Assembler> emit) = All().Single(kernel => string.Equals(kernel.Name, name, StringComparison.Ordinal));
        Assembler kernel = emit();
        List<Instruction> code = Decoded.AssertSame(kernel);
        Assert.Equal(Code.Endbr64, code[0].Code);
        AssertRegisters(code, convention);
        AssertPathsReturn(code);
        Assert.True(kernel.ToArray().Length < (name.StartsWith("tile stages", StringComparison.Ordinal) ? 64 : 16) * 1024, $"{kernel.ToArray().Length} bytes.");
    }

    [Fact]
    public void Listings_have_the_names_of_the_kernel()
    {
        string listing = Listing.Of(DecodeScores.Emit(DecodeElement.Half, 512, 64, 2, DecodeTiles.ScoreStride, CallingConvention.SystemV));
        Assert.StartsWith("fp16 scores 512 bits, dim 64, 2 lines ahead:\n  0000  endbr64\n  0004  mov rcx, rdi ", listing, StringComparison.Ordinal);
        Assert.Contains("\nfirst_product:\n", listing, StringComparison.Ordinal);
        Assert.Matches(@"\n  [0-9a-f]{4}  vfmadd231ps zmm5, zmm30, zmm27 +; s5, q, k1\n", listing);
        Assert.Matches(@"\n  [0-9a-f]{4}  vcvtph2ps zmm26, \[rax\+32\] +; k0, \[key0\+32\]\n", listing);
        Assert.Matches(@"\n  [0-9a-f]{4}  add rax, \[rcx\+\d+\] +; key0, \[block.HeadOffset\]\n", listing);
        Assert.EndsWith("end:\n" + string.Join('\n', listing.Split('\n')[^3..]), listing, StringComparison.Ordinal);
    }

    private static IEnumerable<(string Name, CallingConvention Convention, Func<Assembler> Emit)> All()
    {
        foreach ((int keys, int values) in ((int, int)[])[(1, 1), (1, 3), (2, 4), (3, 5), (4, 8), (8, 16)])
        {
            yield return ($"tile stages, {keys} and {values} blocks", CallingConvention.SystemV, () => TileStages.Emit(keys, values, PrefillTiles.Keys));
        }

        foreach ((string system, CallingConvention convention) in Conventions)
        {
            yield return ($"enabled state, {system}", convention, () => EnabledState.Emit(convention));
            foreach (int blocks in (int[])[1, 2, 3, 8, 16])
            {
                if (blocks <= 8) yield return ($"tile scores, {blocks} blocks, {system}", convention, () => TileScores.Emit(blocks, convention));
                yield return ($"tile sums, {blocks} blocks, {system}", convention, () => TileSums.Emit(blocks, PrefillTiles.Keys / 32, convention));
            }

            foreach (short bits in (short[])[256, 512])
            {
                // AVX2 kernels want more registers than Windows leaves.
                if (bits == 256 && convention.LowVectors < 16) continue;
                int lanes = bits / 32;
                foreach (DecodeElement element in (DecodeElement[])[DecodeElement.Int8, DecodeElement.Int8WithoutVnni])
                {
                    foreach (int dim in ((int[])[16, 32, 48, 64, 96, 128, 192, 288, 512, 544, 576, 768, 1024, 4096]).Where(dim => dim % (2 * lanes) == 0))
                    {
                        foreach (int lines in (int[])[0, 1, 2, 9])
                        {
                            yield return ($"scores of {element}, {bits} bits, dim {dim}, {lines} lines, {system}", convention, () => DecodeScores.Emit(element, bits, dim, lines, DecodeTiles.ScoreStride, convention));
                            if (dim % DecodeSums.IntegerColumns(bits) == 0 && dim <= DecodeSums.MostIntegerColumns(bits)) yield return ($"sums of {element}, {bits} bits, dim {dim}, {lines} lines, {system}", convention, () => DecodeSums.Emit(element, bits, dim, lines, DecodeTiles.ScoreStride, convention));
                        }
                    }
                }

                foreach (int vectors in (int[])[1, 2, 3, 4, 5, 8, 15, 16, 17, 32, 36, 127, 128])
                {
                    foreach (int lines in (int[])[0, 1, 4, 9])
                    {
                        yield return ($"scores, {bits} bits, {vectors} vectors, {lines} lines, {system}", convention, () => DecodeScores.Emit(DecodeElement.Half, bits, vectors * lanes, lines, DecodeTiles.ScoreStride, convention));
                        if (vectors <= 36) yield return ($"sums, {bits} bits, {vectors} vectors, {lines} lines, {system}", convention, () => DecodeSums.Emit(DecodeElement.Half, bits, vectors * lanes, lines, DecodeTiles.ScoreStride, convention));
                    }

                    if (vectors % 2 != 0 || vectors > 64) continue;
                    yield return ($"widening keys, {bits} bits, {vectors} vectors, {system}", convention, () => HalfWidening.Emit(bits, vectors * lanes, vectors * lanes, 2 * lanes, convention));
                    yield return ($"widening values, {bits} bits, {vectors} vectors, {system}", convention, () => HalfWidening.Emit(bits, vectors * lanes, 2 * lanes, 2 * lanes * PrefillTiles.Keys, convention));
                }
            }
        }
    }

    private static void AssertRegisters(List<Instruction> code, CallingConvention convention)
    {
        Register[] free = [Register.RCX, .. convention.Gprs.ToArray().Select(static number => Register.RAX + number)];
        var information = new InstructionInfoFactory();
        foreach (Instruction instruction in code)
        {
            Assert.True(!instruction.IsStackInstruction || instruction.Mnemonic == Mnemonic.Ret, $"{instruction} uses the stack.");
            if (instruction.Mnemonic == Mnemonic.Ret) continue;
            foreach (UsedRegister used in information.GetInfo(instruction).GetUsedRegisters())
            {
                bool reads = used.Access is OpAccess.Read or OpAccess.CondRead;
                Register whole = used.Register.GetFullRegister();
                if (used.Register.IsVectorRegister())
                {
                    // vzeroupper clears what no convention keeps.
                    int number = used.Register.GetNumber();
                    Assert.True(number >= 16 || number < convention.LowVectors || instruction.Mnemonic == Mnemonic.Vzeroupper, $"{instruction}: {used.Register} belongs to the caller.");
                }
                else if (used.Register.IsGPR())
                {
                    bool isBlock = whole == Register.RDI && reads && convention.Block.Number == 7;
                    Assert.True(free.Contains(whole) || isBlock, $"{instruction}: {used.Register} belongs to the caller.");
                }
            }
        }
    }

    /// <summary>From the entry through both sides of every branch: nowhere past the end, nowhere into the middle of an instruction, and a return only behind vzeroupper.</summary>
    private static void AssertPathsReturn(List<Instruction> code)
    {
        Dictionary<ulong, int> places = code.Select(static (instruction, i) => (instruction.IP, i)).ToDictionary(static at => at.IP, static at => at.i);
        bool usesTiles = code.Any(static instruction => instruction.Mnemonic == Mnemonic.Ldtilecfg);
        var seen = new HashSet<int>();
        var next = new Stack<int>([0]);
        int returns = 0;
        while (next.TryPop(out int i))
        {
            Assert.InRange(i, 0, code.Count - 1);
            if (!seen.Add(i)) continue;
            Instruction instruction = code[i];
            switch (instruction.FlowControl)
            {
                case FlowControl.Next:
                    next.Push(i + 1);
                    break;
                case FlowControl.Return:
                    returns++;
                    Assert.Equal(Mnemonic.Vzeroupper, code[i - 1].Mnemonic);
                    if (usesTiles) Assert.Equal(Mnemonic.Tilerelease, code[i - 2].Mnemonic);
                    Assert.DoesNotContain(code, other => other.FlowControl is FlowControl.ConditionalBranch or FlowControl.UnconditionalBranch && (other.NearBranchTarget == instruction.IP || (usesTiles && other.NearBranchTarget == code[i - 1].IP)));
                    break;
                case FlowControl.ConditionalBranch:
                    next.Push(i + 1);
                    next.Push(places[instruction.NearBranchTarget]);
                    break;
                case FlowControl.UnconditionalBranch:
                    next.Push(places[instruction.NearBranchTarget]);
                    break;
                default:
                    Assert.Fail($"{instruction} goes elsewhere.");
                    break;
            }
        }

        Assert.True(returns > 0, "No path returns.");
        Assert.Equal(code.Count, seen.Count);
    }
}
