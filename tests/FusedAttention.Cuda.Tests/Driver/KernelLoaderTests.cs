using FusedAttention.Cuda.Driver;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests.Driver;

/// <summary>Kernels are loaded once, side by side, and refusals say what the assembler said.</summary>
[Collection(FakeDriver.Collection)]
public sealed class KernelLoaderTests : IDisposable
{
    private readonly FakeDriver _fake = new();
    private readonly CudaRuntime _runtime;

    public KernelLoaderTests() => _runtime = _fake.Runtime();

    public void Dispose()
    {
        _runtime.Dispose();
        _fake.Dispose();
    }

    [Fact]
    public void What_the_assembler_made_is_there_to_be_looked_at()
    {
        _fake.LocalBytes = 16;
        LoadedKernel kernel = _runtime.Kernels.Get(Function("a"));
        Assert.Equal((40, 16, "info : used 40 registers"), (kernel.Registers, kernel.LocalBytes, kernel.Log));
    }

    [Fact]
    public void One_kernel_is_loaded_once_and_different_ones_at_the_same_time()
    {
        KernelFunction a = Function("a"), b = Function("b");
        using var both = new Barrier(2);
        _fake.OnLoad = _ => Assert.True(both.SignalAndWait(TimeSpan.FromSeconds(30)), "The other one is not being loaded.");
        BackgroundThread[] threads = [.. ((KernelFunction[])[a, b, a, b, a, b]).Select(function => BackgroundThread.Start(() => _runtime.Prepare(function)))];
        foreach (BackgroundThread thread in threads) thread.Join();
        Assert.Equal((string[])["load a", "load b"], Loads().Order(StringComparer.Ordinal), StringComparer.Ordinal);

        // What counts is the object: there is one a specialisation in a process.
        _fake.OnLoad = null;
        _runtime.Prepare(Function("a"));
        Assert.Equal(["load a"], Loads());
        _runtime.Dispose();
        Assert.Equal(3, _fake.Take().Count(static line => line is "unload"));
    }

    [Fact]
    public void A_refusal_has_the_log_and_is_tried_again()
    {
        KernelFunction function = Function("a");
        _fake.Failing["cuModuleLoadDataEx"] = 218;
        _fake.Logs = ("", "ptxas application ptx input, line 7; error : Unexpected instruction");
        string message = Assert.Throws<CudaException>(() => _runtime.Prepare(function)).Message;
        Assert.Equal(
            "The driver refuses kernel kernel a. cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX (218): what went wrong\nptxas application ptx input, line 7; error : Unexpected instruction", message);
        _fake.Failing.Clear();
        _runtime.Prepare(function);
    }

    [Fact]
    public void Kernels_that_the_device_cannot_run_are_refused_and_unloaded()
    {
        string message = Assert.Throws<CudaException>(() => _runtime.Prepare(new("a", "wide", 128, 232449, static () => "a"))).Message;
        Assert.Equal("Kernel wide needs 232449 bytes of shared memory a block; Fake H100 has 232448.", message);
        _fake.MaxThreads = 96;
        message = Assert.Throws<CudaException>(() => _runtime.Prepare(Function("a"))).Message;
        Assert.Equal("Kernel kernel a (entry a) is of no use: its registers allow 96 threads a block, and it is launched with 128", message);
        _fake.MaxThreads = 128;
        _fake.Failing["cuModuleGetFunction"] = 1;
        Assert.Contains("cuModuleGetFunction: CUDA_ERROR_INVALID_VALUE", Assert.Throws<CudaException>(() => _runtime.Prepare(Function("a"))).Message, StringComparison.Ordinal);
        Assert.Equal(2, _fake.Take().Count(static line => line is "unload"));
        _fake.Failing.Clear();
    }

    private static KernelFunction Function(string name) => new(name, $"kernel {name}", 128, 4096, () => name);

    private string[] Loads() => [.. _fake.Take().Where(static line => line.StartsWith("load", StringComparison.Ordinal))];
}
