using FusedAttention.Cli;
using FusedAttention.Cli.Commands;

return await Tool.RunAsync(args, ToolConsole.OfProcess(), RegisteredBackends.OfThisMachine).ConfigureAwait(false);
