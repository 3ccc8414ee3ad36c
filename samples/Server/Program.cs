using FusedAttention.Samples.Server;

await ServerHost.Create(args).RunAsync().ConfigureAwait(false);
