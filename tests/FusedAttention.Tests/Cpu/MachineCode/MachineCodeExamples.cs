using FusedAttention.Cpu.MachineCode;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>The example of docs/machine-code.md.</summary>
public sealed class MachineCodeExamples
{
    [Fact]
    public void MachineCode()
    {
        // README: MachineCode
        var k = new Assembler("what it is", CallingConvention.Current);
        Gpr row = k.Gpr("row");
        Vec x = k.Vector(512, "x");
        k.Mov(row, k.Field(0, "Row"));
        k.Vcvtph2ps(x, row + 32);
        k.Return();
        // README: end
        Assert.NotEmpty(k.ToArray());
    }
}
