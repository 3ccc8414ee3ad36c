using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace FusedAttention.Cli.Commands;

/// <summary>A command whose description is one line in the list of commands; the rest, examples that are there to be copied, follows its own help as it stands, unwrapped.</summary>
internal sealed class ToolCommand : Command
{
    /// <param name="name">The command's name.</param>
    /// <param name="description">One line; after an empty one, the rest.</param>
    public ToolCommand(string name, string description)
        : base(name, description.ReplaceLineEndings("\n").Split('\n', 2)[0])
    {
        string[] parts = description.ReplaceLineEndings("\n").Split('\n', 2);
        Details = parts.Length > 1 ? parts[1].Trim('\n') : "";
    }

    public string Details { get; }

    /// <summary>Help as the framework writes it, and then the details.</summary>
    public sealed class Help(HelpAction list) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => list.ClearsParseErrors;

        public override int Invoke(ParseResult parseResult)
        {
            int result = list.Invoke(parseResult);
            if (parseResult.CommandResult.Command is ToolCommand { Details.Length: > 0 } command) parseResult.InvocationConfiguration.Output.WriteLine(command.Details);
            return result;
        }
    }
}
