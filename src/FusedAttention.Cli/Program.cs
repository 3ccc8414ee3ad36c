using FusedAttention.Cli.Commands;

return await Tool.RunAsync(args, ToolConsole.OfProcess()).ConfigureAwait(false);
