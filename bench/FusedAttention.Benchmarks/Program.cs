using System.Reflection;
using BenchmarkDotNet.Running;
using FusedAttention.Benchmarks;

// A table of its own, which needs no other processes.
if (args is ["serving"])
{
    ServingCost.Print(Console.Out);
    return;
}

// In process: kernels need no tiering (AggressiveOptimization), and a generated project would inherit the repository's build rules.
BenchmarkSwitcher.FromAssembly(Assembly.GetExecutingAssembly()).Run(["--inProcess", "--memory", .. args]);
