using FusedAttention.Samples.TextGeneration;

return await CommandLine.RunAsync(args, Console.Out, Console.Error).ConfigureAwait(false);
