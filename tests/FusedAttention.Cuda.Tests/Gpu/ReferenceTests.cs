using System.Collections.Concurrent;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>
/// The reference set within the limits that it states, with the kernels that a call gets and with each one that takes the case. The first test runs them all, side by side: most of the time goes into
/// machine code.
/// </summary>
public abstract class ReferenceTests
{
    private static readonly ConcurrentDictionary<TestDevice, Lazy<ConcurrentDictionary<string, string>>> Failures = [];

    private protected ReferenceTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <summary>What the names of cases begin with.</summary>
    public static TheoryData<string> Groups => [.. ReferenceData.Cases.Select(GroupOf).Distinct(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Groups))]
    public void Cases_of_a_group_pass_in_every_kernel_that_takes_them(string group)
    {
        Problems.Open();
        string[] failures = [.. Failures.GetOrAdd(Problems.Target, _ => new(RunAll)).Value.Where(failure => string.Equals(GroupOf(failure.Key), group, StringComparison.Ordinal)).Select(static failure => $"{failure.Key}: {failure.Value}").Order(StringComparer.Ordinal)];
        Assert.True(failures.Length == 0, $"{failures.Length} cases failed:\n{string.Join('\n', failures)}");
    }

    private static string GroupOf(string name) => name[..name.IndexOf('-', StringComparison.Ordinal)];

    private ConcurrentDictionary<string, string> RunAll()
    {
        var failures = new ConcurrentDictionary<string, string>(StringComparer.Ordinal);
        string[] cases = ReferenceData.Cases;
        Problems.ForEach(Enumerable.Range(0, cases.Length), (i, stream) =>
        {
            string failure = string.Join("\n", ((AttentionKernel?[])[null, .. GpuProblems.Kernels]).Select(kernel => Run(cases[i], kernel, stream)).Where(static text => text.Length > 0));
            if (failure.Length > 0) failures[cases[i]] = failure;
        });
        return failures;
    }

    internal static string Run(string name, AttentionKernel? forced, CudaStream stream) => RunFile(ReferenceData.PathOf(name), forced, stream);

    internal static string RunFile(string path, AttentionKernel? forced, CudaStream stream)
    {
        using var caller = new GpuCaller(stream.Device, forced, stream);
        GpuTrace.Write($"{path} {forced}");
        var reference = ReferenceCase.Load(path);
        CaseOutcome outcome = ReferenceCall.Run(reference, RunOptions.Default, caller);
        if (outcome.Passed || (forced is not null && outcome.Failure!.Contains("does not take dimensions", StringComparison.Ordinal))) return "";
        return $"{forced?.ToString() ?? "chosen kernel"}: {outcome.Failure}";
    }
}
