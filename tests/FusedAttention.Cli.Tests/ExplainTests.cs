using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary><c>explain</c>: what it says of machine code, and in whose words.</summary>
public sealed class ExplainTests
{
    [Fact]
    public async Task Explain_lists_machine_code_or_says_why_there_is_none()
    {
        string[] call = ["explain", "--query-heads", "8", "--kv-heads", "2", "--query-length", "1", "--key-length", "1000", "--dim", "64", "--dtype", "fp16", "--listing"];
        ToolRun off = await ToolRun.Execute([.. call, "--instruction-set", "Scalar"]);
        off.AssertSucceeds();
        Assert.Equal(["machine code: none"], off.OutputLines);

        ToolRun listed = await ToolRun.Execute(call);
        listed.AssertSucceeds();
        string? said = Attention.Explain<Half, Half>(new AttentionShape(1, 1, 1000, 8, 2, 64)).MachineCode;
        if (said?.StartsWith("binary16", StringComparison.Ordinal) == true) Assert.Contains("vcvtph2ps", listed.Output, StringComparison.Ordinal);
        else Assert.Equal([$"machine code: {said ?? "none"}"], listed.OutputLines);

        ToolRun info = await ToolRun.Execute("info");
        info.AssertSucceeds();
        if (said is not null) Assert.Contains($"machine code: {said}", info.Output, StringComparison.Ordinal);
        if (Attention.Explain<BFloat16, BFloat16>(new AttentionShape(1, 64, 64, 1, 1, 64)).MachineCode is { } tiles) Assert.Contains(tiles, info.Output, StringComparison.Ordinal);
    }

    /// <summary>What an option has asked for is told by the option's name, not by that of a property of the library.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_library_is_told_in_the_words_of_the_tool(bool json)
    {
        string[] call = ["explain", "--query-length", "64", "--dim", "64", "--dtype", "fp16", "--threads", "3", "--machine-code", "Off"];
        ToolRun explained = await ToolRun.Execute(json ? [.. call, "--json"] : call);
        explained.AssertSucceeds();
        var execution = new CpuExecution { MaxDegreeOfParallelism = 3, MachineCode = CpuMachineCode.Off };
        AttentionExplanation said = Attention.Explain<Half, Half>(new AttentionShape(1, 64, 64, 8, 8, 64), execution: execution);
        Assert.Contains("MaxDegreeOfParallelism", said.ToString(), StringComparison.Ordinal);
        if (said.MachineCode is { } code) Assert.Contains(code.Replace("CpuExecution.MachineCode", "--machine-code", StringComparison.Ordinal), explained.Output, StringComparison.Ordinal);
        if (!json) Assert.Contains("at most 3 by --threads", explained.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("CpuExecution", explained.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("MaxDegreeOfParallelism", explained.Output, StringComparison.Ordinal);
    }
}
