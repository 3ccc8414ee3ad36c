using System.Reflection;
using FusedAttention.Cpu.MachineCode;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>Every instruction that the assembler has, with every class of operands that it takes, is what an independent decoder reads, in the bytes that an independent encoder writes.</summary>
public sealed class InstructionFormTests
{
    private static readonly int[] Constants = [0, 1, 2, 7, 127];

    // Widths of vectors that an instruction has, where it is not all three.
    private static readonly Dictionary<string, short[]> Widths = new(StringComparer.Ordinal)
    {
        [nameof(Assembler.Vbroadcasti32x4)] = [256, 512],
        [nameof(Assembler.Vextract)] = [256, 512],
        [nameof(Assembler.Vhaddps)] = [128, 256],
        [nameof(Assembler.Vphaddd)] = [128, 256],
        [nameof(Assembler.Vperm2f128)] = [256],
        [nameof(Assembler.Vpermq)] = [256, 512],
        [nameof(Assembler.Vshuff32x4)] = [256, 512],
    };

    // Without an EVEX form: no registers from 16 on, no masks.
    private static readonly string[] VexOnly = [nameof(Assembler.Vhaddps), nameof(Assembler.Vphaddd), nameof(Assembler.Vperm2f128)];

    private static readonly string[] NoInstructions = [nameof(Assembler.Place), nameof(Assembler.Return), nameof(Assembler.Emit)];

    public static TheoryData<string> Instructions => [.. Methods().Select(method => method.ToString()!)];

    [Theory]
    [MemberData(nameof(Instructions))]
    public void The_decoder_reads_what_was_asked_for(string signature)
    {
        MethodInfo method = Methods().Single(m => string.Equals(m.ToString(), signature, StringComparison.Ordinal));
        Label label = new("there");
        int emitted = 0;
        foreach (short width in Widths.GetValueOrDefault(method.Name, [128, 256, 512]))
        {
            // Every value of every operand, the others at their first and last: products of all would be millions.
            object[][] values = [.. method.GetParameters().Select(parameter => Values(parameter.ParameterType, width, label))];
            if (method.GetParameters() is [{ ParameterType: var first }, _, _] && first == typeof(Tile)) values = [values[0], [.. values[1].Reverse()], [values[2][3], values[2][6]]];
            for (int p = 0; p < Math.Max(1, values.Length); p++)
            {
                foreach (int others in (int[])[0, -1])
                {
                    for (int v = 0; v < (values.Length == 0 ? 1 : values[p].Length); v++)
                    {
                        object[] arguments = [.. values.Select((all, i) => all[i == p ? v : others < 0 ? ^1 : Math.Min(others, all.Length - 1)])];
                        if (method.Name.StartsWith("Tdp", StringComparison.Ordinal) && new HashSet<object>(arguments).Count < 3) continue;
                        emitted += Check(method, arguments, label) ? 1 : 0;
                        if (v != 0 || !CanMask(method, arguments)) continue;
                        Vec destination = (Vec)arguments[0];
                        emitted += Check(method, [destination.Where(new(1)), .. arguments[1..]], label) ? 1 : 0;
                        emitted += Check(method, [destination.OrZero(new(7)), .. arguments[1..]], label) ? 1 : 0;
                    }
                }
            }
        }

        Assert.True(emitted > 0, $"{signature} was refused with all operands.");
    }

    [Fact]
    public void Every_form_of_the_table_is_reached_by_an_instruction()
    {
        var reached = new HashSet<Form>();
        Label label = new("there");
        foreach (MethodInfo method in Methods())
        {
            // A register everywhere, and memory everywhere it may be; whole vectors and less of them.
            foreach ((short width, Index which) in ((short, Index)[])[(256, 0), (512, 0), (512, ^6)])
            {
                var kernel = new Assembler("k", CallingConvention.SystemV);
                object[] arguments = [.. method.GetParameters().Select((parameter, i) => parameter.ParameterType == typeof(Tile) ? new Tile((byte)i) : Value(Values(parameter.ParameterType, width, label), which))];
                try
                {
                    method.Invoke(kernel, arguments);
                    kernel.Return(releaseTiles: true);
                    reached.UnionWith(kernel.Lines.Select(line => line.Form!));
                }
                catch (TargetInvocationException e) when (e.InnerException is ArgumentException)
                {
                    // A width that it has not.
                }
            }
        }

        foreach (FieldInfo field in typeof(Forms).GetFields(BindingFlags.Static | BindingFlags.Public)) Assert.Contains((Form)field.GetValue(null)!, reached);

        static object Value(object[] all, Index which) => all.Length > 6 ? all[which] : all[0];
    }

    [Fact]
    public void Zeros_take_the_form_that_the_register_has()
    {
        var kernel = new Assembler("zeros", CallingConvention.SystemV);
        kernel.Zero(new Vec(3, 512));
        kernel.Zero(new Vec(3, 256));
        kernel.Zero(new Vec(19, 512));
        kernel.Return();
        Assert.Contains("vxorps xmm3, xmm3, xmm3\n  000b  vxorps xmm3, xmm3, xmm3\n  000f  vpxord zmm19, zmm19, zmm19", Listing.Of(kernel), StringComparison.Ordinal);
        Decoded.AssertSame(kernel);
    }

    [Fact]
    public void Operands_that_a_form_does_not_take_are_refused()
    {
        var kernel = new Assembler("k", CallingConvention.SystemV);
        Gpr rax = new(0), rsp = new(4);
        Vec low = new(0, 256), upper = new(16, 256), whole = new(1, 512);
        Assert.Throws<ArgumentException>(() => kernel.Vhaddps(low, upper, low));
        Assert.Throws<ArgumentException>(() => kernel.Vperm2f128(whole, whole, whole, 0));
        Assert.Throws<ArgumentException>(() => kernel.Vmovups(low, (rax + 0).Plus(rsp)));
        Assert.Throws<ArgumentException>(() => kernel.Vpermq(whole, whole, (rax + 0).ToAllLanes()));
        Assert.Throws<ArgumentException>(() => kernel.Tdpbf16ps(new(0), new(1), new(1)));
        Assert.Throws<ArgumentException>(() => kernel.Tdpbf16ps(new(0), new(0), new(1)));
        Assert.Throws<ArgumentException>(() => kernel.Tdpbf16ps(new(0), new(1), new(0)));
    }

    /// <summary>Whether it was encoded; what VEX cannot say is refused where there is no EVEX form, and so is a repeated element where it has none.</summary>
    private static bool Check(MethodInfo method, object[] arguments, Label label)
    {
        var kernel = new Assembler("k", CallingConvention.SystemV);
        label.Offset = -1;
        try
        {
            method.Invoke(kernel, arguments);
        }
        catch (TargetInvocationException e) when (e.InnerException is ArgumentException)
        {
            bool repeats = arguments.Any(static argument => argument is Source { Operand.IsBroadcast: true });
            bool upper = arguments.Any(static argument => argument is Vec { Number: >= 16 } or Source { Operand.Number: >= 16 });
            Assert.True(repeats || (upper && VexOnly.Contains(method.Name, StringComparer.Ordinal)), $"{method.Name} refused {string.Join(' ', arguments)}: {e.InnerException.Message}");
            return false;
        }

        kernel.Place(label);
        kernel.Return();
        if (method.Name is not (nameof(Assembler.Zero) or nameof(Assembler.Vextract))) Assert.Equal(method.Name, kernel.Lines[2].Form!.Name, ignoreCase: true);
        Decoded.AssertSame(kernel);
        return true;
    }

    private static bool CanMask(MethodInfo method, object[] arguments) =>
        arguments is [Vec, ..] && !VexOnly.Contains(method.Name, StringComparer.Ordinal) && !string.Equals(method.Name, nameof(Assembler.Zero), StringComparison.Ordinal);

    private static IEnumerable<MethodInfo> Methods() => typeof(Assembler).GetMethods(BindingFlags.Instance | BindingFlags.Public | BindingFlags.DeclaredOnly)
        .Where(method => method.ReturnType == typeof(void) && !method.IsSpecialName && !NoInstructions.Contains(method.Name, StringComparer.Ordinal));

    /// <summary>The first is the plainest; the last takes what only EVEX has.</summary>
    private static object[] Values(Type type, short width, Label label)
    {
        if (type == typeof(Vec)) return [.. Vectors(width)];
        if (type == typeof(Source)) return [.. Vectors(width).Select(static vector => (object)(Source)vector), .. Memory(repeats: true).Select(static memory => (object)(Source)memory)];
        if (type == typeof(Mem)) return [.. Memory(repeats: false)];
        if (type == typeof(Word)) return [.. Gprs().Select(static register => (object)(Word)register), .. Memory(repeats: false).Select(static memory => (object)(Word)memory)];
        if (type == typeof(Gpr)) return [.. Gprs()];
        if (type == typeof(Gpr32)) return [.. Gprs().Select(static register => register.Low)];
        if (type == typeof(KMask)) return [.. Enumerable.Range(1, 7).Select(static i => new KMask((byte)i))];
        if (type == typeof(Tile)) return [.. Enumerable.Range(0, 8).Select(static i => new Tile((byte)i))];
        if (type == typeof(Label)) return [label];
        return type == typeof(int) ? [.. Constants.Cast<object>()] : throw new NotSupportedException($"Operands of {type}.");
    }

    private static IEnumerable<Vec> Vectors(short width)
    {
        foreach (int number in (int[])[0, 5, 7, 8, 15, 16, 23, 24, 31]) yield return new((byte)number, width);
    }

    private static IEnumerable<Gpr> Gprs()
    {
        for (byte i = 0; i < 16; i++)
        {
            if (i != 4) yield return new(i);
        }
    }

    private static IEnumerable<Mem> Memory(bool repeats)
    {
        foreach (Gpr register in (Gpr[])[.. Gprs(), new(4)])
        {
            yield return register + 0;
            yield return register + 64;
        }

        // Bases that need a displacement, or an index byte, and one that needs neither.
        foreach (byte number in (byte[])[0, 4, 5, 12, 13])
        {
            Gpr register = new(number);
            foreach (int displacement in (int[])[4, 8, 16, 32, -64, -128, 127, 128, 508, 512, 1024, 2032, 4064, 8128, 8192, -8192, 100_000, -100_000]) yield return register + displacement;
            foreach (Gpr index in (Gpr[])[new(0), new(5), new(9), new(12), new(15)])
            {
                yield return (register + 0).Plus(index);
                yield return (register + 64).Plus(index, 2);
                yield return (register + 65).Plus(index, 4);
                yield return (register - 4096).Plus(index, 8);
            }
        }

        if (!repeats) yield break;
        foreach (int displacement in (int[])[0, 4, 508, 512, 3]) yield return (new Gpr(10) + displacement).ToAllLanes();
    }
}
