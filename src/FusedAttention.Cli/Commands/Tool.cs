using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary>The command line: which commands there are, and what becomes of their errors.</summary>
internal static class Tool
{
    private const string Description = """
        Exact fused attention on .safetensors, .npy and .npz tensors.

        Exit codes: 0 success, 1 a result beyond its limit, 2 bad options, files or machine, 130 cancelled.
        """;

    /// <summary>Runs one command line.</summary>
    /// <param name="arguments">The command line.</param>
    /// <param name="console">Where to write.</param>
    /// <param name="backends">What there is to run on.</param>
    /// <param name="cancellation">Stops the work.</param>
    /// <returns>The exit code: see <see cref="ExitCode"/>.</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> arguments, ToolConsole console, BackendCatalog backends, CancellationToken cancellation = default)
    {
        ParseResult parsed = Build(console, backends).Parse(arguments);
        string? problem = NoOption(arguments, parsed) ?? WithValue(arguments, parsed);
        if (problem is not null || parsed.Action is ParseErrorAction)
        {
            foreach (string message in problem is not null ? [problem] : Problems(parsed)) console.Problem(message);
            console.Problem($"'{CommandPath(parsed)} --help' lists the {(parsed.CommandResult.Command is RootCommand ? "commands" : "options")}.");
            return ExitCode.BadInput;
        }

        var configuration = new InvocationConfiguration
        {
            Output = console.Output,
            Error = console.Error,
            EnableDefaultExceptionHandler = false,
            // After Ctrl-C the kernels stop at the end of a piece of work; loading or writing a large file may take longer.
            ProcessTerminationTimeout = TimeSpan.FromSeconds(10),
        };
        return await parsed.InvokeAsync(configuration, cancellation).ConfigureAwait(false);
    }

    /// <summary>A command whose work runs on a thread of its own, so that Ctrl-C reaches it as a cancelled token, and whose exceptions become one line each.</summary>
    public static Command WithAction(this Command command, ToolConsole console, BackendCatalog backends, Func<ParseResult, CancellationToken, int> action)
    {
        command.SetAction((parsed, cancellation) => Task.Run(() => Guard(console, backends, () => action(parsed, cancellation)), CancellationToken.None));
        return command;
    }

    private static RootCommand Build(ToolConsole console, BackendCatalog backends)
    {
        var root = new RootCommand(Description)
        {
            RunCommand.Create(console, backends),
            VerifyCommand.Create(console, backends),
            ConformCommand.Create(console, backends),
            InfoCommand.Create(console, backends),
            ExplainCommand.Create(console, backends),
            BenchCommand.Create(console, backends),
            QuantizeCommand.Create(console, backends),
        };
        foreach (IBackendProvider provider in backends.Providers)
        {
            if (provider.Source is IKernelSource source) root.Add(KernelSourceCommand.Create(console, backends, provider, source));
        }

        foreach (HelpOption help in root.Options.OfType<HelpOption>())
        {
            if (help.Action is not HelpAction action) continue;
            action.MaxWidth = console.Width;
            help.Action = new ToolCommand.Help(action, console.Width);
        }

        return root;
    }

    /// <summary>What is wrong with a command line, in the words of this tool where the framework has its own for a name that does not exist.</summary>
    private static IEnumerable<string> Problems(ParseResult parsed)
    {
        Command command = parsed.CommandResult.Command;
        if (command is RootCommand)
        {
            string commands = string.Join(", ", command.Subcommands.Select(static sub => sub.Name));
            yield return parsed.UnmatchedTokens is [string typed, ..]
                ? $"There is no {(typed.StartsWith('-') ? "option" : "command")} {typed}{Suggestions.DidYouMean(typed, command.Subcommands.Select(static sub => sub.Name))} The commands are {commands}."
                : $"Name a command: {commands}.";
            yield break;
        }

        foreach (var error in parsed.Errors)
        {
            string? unknown = parsed.UnmatchedTokens.FirstOrDefault(token => token.StartsWith('-') && error.Message.Contains($"'{token}'", StringComparison.Ordinal));
            yield return unknown is null ? Missing(parsed, error) ?? error.Message : Suggestions.NoOption(unknown, command);
        }
    }

    /// <summary>"Give IN and OUT." where an argument is missing; null for another error.</summary>
    private static string? Missing(ParseResult parsed, ParseError error)
        => error.SymbolResult is ArgumentResult { Tokens.Count: 0 } argument && argument.Argument.Arity.MinimumNumberOfValues > 0
            ? $"Give {string.Join(" and ", parsed.CommandResult.Command.Arguments.Select(static a => a.HelpName ?? a.Name))}."
            : null;

    /// <summary>A name that is none of a command's options, as --cuasal, which would pass for a file otherwise; null where there is none. Behind <c>--</c> all are files.</summary>
    private static string? NoOption(IReadOnlyList<string> arguments, ParseResult parsed)
    {
        Command command = parsed.CommandResult.Command;
        if (command is RootCommand) return null;
        foreach (string argument in arguments.TakeWhile(static argument => argument is not "--").Where(static argument => argument.StartsWith("--", StringComparison.Ordinal)))
        {
            int end = argument.AsSpan().IndexOfAny('=', ':');
            string name = end < 0 ? argument : argument[..end];
            if (name is not "--help" && !Suggestions.OptionsOf(command).Contains(name, StringComparer.Ordinal)) return Suggestions.NoOption(name, command);
        }

        return null;
    }

    /// <summary>A switch that was given a value, as --causal=no, which would pass for a file otherwise; null where there is none.</summary>
    private static string? WithValue(IReadOnlyList<string> arguments, ParseResult parsed)
    {
        foreach (string argument in arguments)
        {
            int end = argument.StartsWith("--", StringComparison.Ordinal) ? argument.AsSpan().IndexOfAny('=', ':') : -1;
            if (end > 0 && parsed.CommandResult.Command.Options.Any(option => option.Arity.MaximumNumberOfValues == 0 && string.Equals(option.Name, argument[..end], StringComparison.Ordinal))) return $"{argument[..end]} takes no value.";
        }

        return null;
    }

    private static int Guard(ToolConsole console, BackendCatalog backends, Func<int> action)
    {
        try
        {
            return action();
        }
        catch (Exception e)
        {
            return Report(console, backends, e);
        }
    }

    private static int Report(ToolConsole console, BackendCatalog backends, Exception e)
    {
        // The cause, not the wrapping that parallel loops and static constructors put around it.
        while (e is AggregateException or TypeInitializationException && e.InnerException is Exception cause) e = cause;
        if (e is OperationCanceledException)
        {
            console.Problem("Cancelled.");
            return ExitCode.Cancelled;
        }

        // Messages of argument exceptions end with the actual value on a line of its own; here every error is one line.
        string message = OptionText.InToolWords(e.Message.ReplaceLineEndings(" "));
        bool expected = e is UsageException or IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException || backends.IsDeviceFailure(e);
        console.Problem(expected ? message : e is OutOfMemoryException ? $"Not enough memory: {message}" : $"Unexpected {e.GetType().Name}: {message}");
        return ExitCode.BadInput;
    }

    private static string CommandPath(ParseResult parsed)
    {
        string name = parsed.CommandResult.Command.Name;
        return parsed.CommandResult.Command is RootCommand ? "fused-attention" : $"fused-attention {name}";
    }
}
