using System.Reflection;
using BenchmarkDotNet.Running;

// In process: kernels need no tiering (AggressiveOptimization), and a generated project would inherit the repository's build rules.
BenchmarkSwitcher.FromAssembly(Assembly.GetExecutingAssembly()).Run(["--inProcess", "--memory", .. args]);
