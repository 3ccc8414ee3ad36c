using FusedAttention.Cuda.Driver;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests.Driver;

/// <summary>Machine code is kept where the caller says, found again by whoever needs the same, and never in the way.</summary>
[Collection(FakeDriver.Collection)]
public sealed class KernelFolderTests : IDisposable
{
    private readonly FakeDriver _fake = new();
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory();
    private string[] _loads = [];

    public void Dispose()
    {
        _fake.Dispose();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public void A_second_process_loads_what_the_first_has_assembled()
    {
        Assert.Equal(["assemble a", "load machine code of a"], Prepare("a"));
        FileInfo file = Assert.Single(_folder.GetFiles());
        Assert.Equal(".kernel", file.Extension);
        Assert.Equal(["load machine code of a"], Prepare("a"));
        Assert.Equal(["assemble b", "load machine code of b"], Prepare("b"));
        Assert.Equal(2, _folder.GetFiles().Length);
        Assert.Equal(0, _fake.Linkers);
    }

    [Fact]
    public void Without_a_folder_the_driver_keeps_it() => Assert.Equal(["load a"], Prepare("a", path: null));

    /// <summary>Another driver, another card: another file. So nothing is ever out of date.</summary>
    [Fact]
    public void Files_are_of_one_device_and_driver()
    {
        Prepare("a");
        _fake.Version = 13010;
        Assert.Equal(["assemble a", "load machine code of a"], Prepare("a"));
        _fake.Devices[0] = _fake.Devices[0] with { Name = "Fake H200" };
        Assert.Equal(["assemble a", "load machine code of a"], Prepare("a"));
        Assert.Equal(3, _folder.GetFiles().Length);
    }

    /// <summary>The driver is told no length, so what is cut off must not come to it.</summary>
    [Fact]
    public void What_is_damaged_is_assembled_again()
    {
        Prepare("a");
        FileInfo file = Assert.Single(_folder.GetFiles());
        byte[] whole = File.ReadAllBytes(file.FullName), changed = [.. whole];
        changed[^3] ^= 1;
        foreach (byte[] damaged in (byte[][])[[], whole[..20], whole[..32], whole[..^1], changed])
        {
            File.WriteAllBytes(file.FullName, damaged);
            Assert.Equal(["assemble a", "load machine code of a"], Prepare("a"));
            Assert.Equal(whole, File.ReadAllBytes(file.FullName));
        }
    }

    /// <summary>Whole, but not what this driver takes.</summary>
    [Fact]
    public void What_does_not_load_is_assembled_again()
    {
        Prepare("a");
        _fake.Refused = FakeDriver.MachineCode + "a";
        Assert.Throws<CudaException>(() => Prepare("a"));
        Assert.Equal(["load machine code of a", "assemble a", "load machine code of a"], _loads);
    }

    [Fact]
    public void A_folder_that_nobody_can_write_to_is_no_failure()
    {
        // A folder where the file is to be: neither read nor replaced.
        using CudaRuntime runtime = Open(_folder.FullName);
        Directory.CreateDirectory(runtime.Folder!.FileOf("a"));
        Assert.Equal(["assemble a", "load machine code of a"], Prepare("a"));
        Assert.Empty(_folder.GetFiles());
    }

    [Fact]
    public void A_refusal_has_the_log_and_leaves_nothing()
    {
        _fake.Failing["cuLinkComplete"] = 218;
        _fake.Logs = ("", "ptxas application ptx input, line 7; error : Unexpected instruction");
        Assert.Equal(
            "The driver refuses kernel kernel a. cuLinkComplete: CUDA_ERROR_INVALID_PTX (218): what went wrong\nptxas application ptx input, line 7; error : Unexpected instruction",
            Assert.Throws<CudaException>(() => Prepare("a")).Message);
        Assert.Equal(0, _fake.Linkers);
        Assert.Empty(_folder.GetFiles());
    }

    [Fact]
    public void The_folder_is_the_devices()
    {
        using CudaRuntime runtime = Open(path: null);
        var device = new CudaDevice(runtime);
        Assert.Null(device.KernelFolder);
        string path = Path.Combine(_folder.FullName, "new", "one");
        device.KernelFolder = path;
        Assert.Equal(path, device.KernelFolder);
        Assert.True(Directory.Exists(path));
        string file = Path.Combine(_folder.FullName, "file");
        File.WriteAllText(file, "");
        Assert.ThrowsAny<IOException>(() => device.KernelFolder = file);
        device.KernelFolder = null;
        Assert.Null(device.KernelFolder);
    }

    private CudaRuntime Open(string? path)
    {
        CudaRuntime runtime = _fake.Runtime();
        runtime.KernelFolder = path;
        return runtime;
    }

    private string[] Prepare(string text) => Prepare(text, _folder.FullName);

    private string[] Prepare(string text, string? path)
    {
        using CudaRuntime runtime = Open(path);
        _fake.Take();
        try
        {
            runtime.Prepare(new KernelFunction("entry", $"kernel {text}", 128, 4096, () => text));
        }
        finally
        {
            _loads = [.. _fake.Take().Where(static line => line.StartsWith("load", StringComparison.Ordinal) || line.StartsWith("assemble", StringComparison.Ordinal))];
        }

        return _loads;
    }
}
