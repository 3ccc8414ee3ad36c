using System.CommandLine;
using FusedAttention.Cli.Calls;

namespace FusedAttention.Cli.Commands;

/// <summary>The options that say how to run and never what to compute: backend, threads, instruction set, row invariance.</summary>
internal sealed class ExecutionOptions
{
    private readonly Option<string> _backend = new("--backend")
    {
        Description = "Where to run: cpu.",
        HelpName = "BACKEND",
        DefaultValueFactory = _ => "cpu",
    };

    private readonly Option<int?> _threads = new("--threads") { Description = "Threads to use at most; one per processor if not given.", HelpName = "N" };

    private readonly Option<string> _variant = new("--variant")
    {
        Description = "Variant of the CPU kernels: Auto, Scalar, Vector128, Avx2 or Avx512.",
        HelpName = "NAME",
        DefaultValueFactory = _ => nameof(CpuInstructionSet.Auto),
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
        command.Add(_variant);
        command.Add(_rowInvariant);
    }

    /// <summary>The options with everything about the computation left at its default.</summary>
    public AttentionOptions Read(ParseResult parsed, CancellationToken cancellation)
    {
        string backend = parsed.GetValue(_backend)!;
        if (!backend.Equals("cpu", StringComparison.OrdinalIgnoreCase)) throw new UsageException($"--backend '{backend}' is not there: this build has cpu.");
        int? threads = parsed.GetValue(_threads);
        if (threads is < 1) throw new UsageException($"--threads {threads} is not 1 or more.");
        return new()
        {
            MaxDegreeOfParallelism = threads ?? -1,
            InstructionSet = OptionText.InstructionSet(_variant.Name, parsed.GetValue(_variant)!),
            RowInvariant = parsed.GetValue(_rowInvariant),
            CancellationToken = cancellation,
        };
    }

    /// <summary>Throws, in the library's own words, if this machine cannot run what the options name.</summary>
    public static void ThrowIfNotSupported(AttentionOptions options)
    {
        Span<float> one = [1f];
        Span<float> result = stackalloc float[1];
        Attention.Forward<float, float>(one, one, one, result, new AttentionShape(1, 1, 1, 1, 1, 1), options);
    }
}
