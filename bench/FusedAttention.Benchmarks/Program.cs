using System.Globalization;
using System.Reflection;
using BenchmarkDotNet.Running;
using FusedAttention.Benchmarks;
using FusedAttention.Benchmarks.DropIn;

// Tables of their own, which need no other processes.
if (args is ["serving"])
{
    ServingCost.Print(Console.Out);
    return;
}

if (args is ["drop-in", ..])
{
    DropInCost.Print(Console.Out, TimeSpan.FromSeconds(args is [_, "--seconds", string seconds] ? double.Parse(seconds, NumberStyles.Float, CultureInfo.InvariantCulture) : 5));
    return;
}

// In process: kernels need no tiering (AggressiveOptimization), and a generated project would inherit the repository's build rules.
BenchmarkSwitcher.FromAssembly(Assembly.GetExecutingAssembly()).Run(["--inProcess", "--memory", .. args]);
