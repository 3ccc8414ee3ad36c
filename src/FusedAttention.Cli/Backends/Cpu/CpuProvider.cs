using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Measurement;

namespace FusedAttention.Cli.Backends.Cpu;

/// <summary>The processor.</summary>
internal sealed class CpuProvider : IBackendProvider
{
    public CpuProvider() => Devices = [new(this, CpuBackend.Instance)];

    public string Name => CpuBackend.Instance.Name;

    public string Title => "CPU";

    public string? Hardware => null;

    public bool IsHost => true;

    public IReadOnlyList<BackendDevice> Devices { get; }

    public string? WhyNone => null;

    public IReadOnlyList<TimedShape> TimedShapes => [];

    public string? TargetNote => null;

    public BackendInfo Info()
    {
        var variants = new List<string[]>();
        foreach (CpuInstructionSet set in Enum.GetValues<CpuInstructionSet>())
        {
            if (set != CpuInstructionSet.Auto) variants.Add([set.ToString(), Runs(set)]);
        }

        return new($"available; Auto runs {Resolved()}") { Variants = new(["instruction set", "runs here"], variants) };
    }

    public bool IsDeviceFailure(Exception exception) => false;

    /// <summary>Asks the library itself, by a call with one query and one key.</summary>
    private static string Runs(CpuInstructionSet set)
    {
        try
        {
            CpuBackend.Instance.ThrowIfNotSupported(new() { Execution = new() { InstructionSet = set } });
            return "yes";
        }
        catch (PlatformNotSupportedException)
        {
            return "no";
        }
    }

    private static string Resolved()
    {
        try
        {
            // Grouped heads of binary16, and a prefill of bfloat16: calls that have machine code if any have.
            AttentionExplanation explained = Attention.Explain<Half, Half>(new AttentionShape(1, 1, 64, 4, 1, 64));
            if (explained.MachineCode is not { } code) return $"{explained.InstructionSet}";
            string tiles = Attention.Explain<BFloat16, BFloat16>(new AttentionShape(1, 64, 64, 1, 1, 64)).MachineCode!;
            string more = string.Equals(tiles, code, StringComparison.Ordinal) ? "" : tiles.StartsWith("none", StringComparison.Ordinal) ? $"; bfloat16 {tiles}" : $"; {tiles}";
            return $"{explained.InstructionSet}, machine code: {code}{more}";
        }
        catch (PlatformNotSupportedException e)
        {
            // The environment variable that forces a variant may name one that this machine lacks.
            return $"nothing: {e.Message}";
        }
    }
}
