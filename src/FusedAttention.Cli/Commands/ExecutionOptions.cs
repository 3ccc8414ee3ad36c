using System.CommandLine;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary>How to run: on which device, and how there.</summary>
internal readonly record struct Execution(BackendDevice Device, RunOptions Options);

/// <summary>The options that say how to run and never what to compute: backend, threads, instruction set, machine code, row invariance.</summary>
internal sealed class ExecutionOptions(ToolConsole console, BackendCatalog backends)
{
    private readonly Option<string> _backend = new("--backend")
    {
        Description = $"Where to run: {backends.Choices}. Nothing else falls back to another one.",
        HelpName = "BACKEND",
        DefaultValueFactory = _ => backends.Host.Name,
    };

    private readonly Option<int?> _threads = new Option<int?>("--threads") { Description = "CPU: threads to use at most; one per processor if not given.", HelpName = "N" }.WholeNumber();

    private readonly Option<string> _instructionSet = new("--instruction-set", "--variant")
    {
        Description = "CPU: instruction set of the kernels: Auto, Scalar, Vector128, Avx2 or Avx512.",
        HelpName = "NAME",
        DefaultValueFactory = _ => nameof(CpuInstructionSet.Auto),
    };

    private readonly Option<string> _machineCode = new("--machine-code")
    {
        Description = "CPU: machine code that the library writes, where .NET has no instructions: Auto, Off or Required.",
        HelpName = "NAME",
        DefaultValueFactory = _ => nameof(CpuMachineCode.Auto),
    };

    private readonly Option<bool> _rowInvariant = new("--row-invariant")
    {
        Description = "One arithmetic for any number of queries: decoding and every chunking of a prefill give the same bits.",
        Arity = ArgumentArity.Zero,
    };

    public void AddTo(Command command)
    {
        command.Add(_backend);
        command.Add(_threads);
        command.Add(_instructionSet);
        command.Add(_machineCode);
        command.Add(_rowInvariant);
    }

    /// <param name="parsed">The command line.</param>
    /// <param name="cancellation">Stops the work.</param>
    /// <param name="takesAny">Whether a device will do that the kernels were not made for.</param>
    public Execution Read(ParseResult parsed, CancellationToken cancellation, bool takesAny = false)
    {
        int? threads = parsed.GetValue(_threads);
        CpuInstructionSet instructionSet = OptionText.InstructionSet(_instructionSet.Name, parsed.GetValue(_instructionSet)!);
        CpuMachineCode machineCode = OptionText.MachineCode(_machineCode.Name, parsed.GetValue(_machineCode)!);
        string? hostOption = threads is not null ? _threads.Name
            : instructionSet != CpuInstructionSet.Auto ? _instructionSet.Name
            : machineCode != CpuMachineCode.Auto ? _machineCode.Name
            : null;
        var options = new RunOptions
        {
            Execution = new() { MaxDegreeOfParallelism = threads ?? -1, InstructionSet = instructionSet, MachineCode = machineCode },
            RowInvariant = parsed.GetValue(_rowInvariant),
            CancellationToken = cancellation,
        };
        return new(backends.Choose(parsed.GetValue(_backend)!, hostOption, console.Error.WriteLine, takesAny), options);
    }
}
