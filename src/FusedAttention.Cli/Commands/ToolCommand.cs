using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace FusedAttention.Cli.Commands;

/// <summary>A command whose description is one line in the list of commands; the rest follows its own help: prose at the console's width, and lines that begin with spaces, examples that are there to be copied, as they stand.</summary>
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
    /// <param name="list">The framework's help.</param>
    /// <param name="width">Columns.</param>
    public sealed class Help(HelpAction list, int width) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => list.ClearsParseErrors;

        public override int Invoke(ParseResult parseResult)
        {
            int result = list.Invoke(parseResult);
            if (parseResult.CommandResult.Command is ToolCommand { Details.Length: > 0 } command) parseResult.InvocationConfiguration.Output.WriteLine(TextWrap.Prose(command.Details, width));
            return result;
        }
    }
}
