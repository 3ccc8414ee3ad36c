using System.Globalization;
using FusedAttention.Cuda.Emulation.Runtime;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Tests.Driver;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>A GPU that tests run on: this machine's, or the emulated one.</summary>
internal abstract class TestDevice
{
    private static readonly bool IsWhole = Environment.GetEnvironmentVariable("FUSEDATTENTION_EMULATED_ALL") is "1";

    public static readonly TestDevice Gpu = new GpuOfTheMachine();

    public static readonly TestDevice Emulator = new EmulatedGpu("emulator", 24, static () => new(new EmulatedRuntime
    {
        // Tensors of 5 GB are address space of which hardly a page is touched.
        Device = new(0, "Emulated GPU", 8, 0, Multiprocessors: 108, MaxSharedMemory: 166912, MemoryBytes: (IsWhole ? 24L : 8L) << 30, DriverVersion: 13000) { L2Bytes = 40 << 20 },
    }));

    /// <summary>A Hopper whose prefill is that of warpgroups, and whose decode has boxes. Few multiprocessors, so that blocks of threads have several items each; and fewer problems: products are dear.</summary>
    public static readonly TestDevice EmulatedHopper = new EmulatedGpu("emulated Hopper", 48, NewHopper, AttentionKernel.Prefill);

    /// <summary>A Hopper whose decode has boxes, with as many multiprocessors as make items of splits.</summary>
    public static readonly TestDevice EmulatedBoxes = new EmulatedGpu("emulated Hopper, boxes", 24, static () =>
        new(new EmulatedRuntime { Device = new(0, "Emulated Hopper", 9, 0, Multiprocessors: 132, MaxSharedMemory: 232448, MemoryBytes: 8L << 30, DriverVersion: 13000) { L2Bytes = 40 << 20 } }) { DecodeCopies = DecodeCopies.Boxes },
        AttentionKernel.Decode);

    /// <summary>A device that is <see cref="EmulatedHopper"/>'s, with a runtime of its own.</summary>
    public static CudaDevice NewHopper() => new(new EmulatedRuntime { Device = new(0, "Emulated Hopper", 9, 0, Multiprocessors: 3, MaxSharedMemory: 232448, MemoryBytes: 8L << 30, DriverVersion: 13000) { L2Bytes = 40 << 20 } })
    {
        PrefillForm = PrefillForm.Warpgroups,
        DecodeCopies = DecodeCopies.Boxes,
    };

    /// <summary>The device, or the end of a test where there is none.</summary>
    public abstract CudaDevice Open();

    /// <summary>Whether tests of one kernel alone are for this device.</summary>
    public virtual bool Tests(AttentionKernel kernel) => true;

    /// <summary>Which of many problems are run.</summary>
    public abstract IEnumerable<int> Some(IEnumerable<int> numbers);

    /// <summary>Whether one of several cases of a test is run, which it is not worth its time otherwise.</summary>
    public abstract bool Takes(int number);

    /// <summary>How often something is repeated that a GPU does so many times.</summary>
    public abstract int Times(int onGpu);

    /// <summary>Tokens of a problem that has so many on a GPU, and shows what it is to show with fewer.</summary>
    public abstract int Tokens(int onGpu);

    /// <summary>What a caller does with the driver beside this library.</summary>
    public abstract ICallersDriver OpenDriver();

    /// <summary>Everything; with FUSEDATTENTION_GPU_PART=k/n the numbers that leave k when divided by n: the driver assembles a process's kernels one after the other, and a sweep of all is many minutes of that.</summary>
    private sealed class GpuOfTheMachine : TestDevice
    {
        private static readonly (int Index, int Of) Part = ParsePart(Environment.GetEnvironmentVariable("FUSEDATTENTION_GPU_PART"));

        public override CudaDevice Open()
        {
            Assert.SkipUnless(CudaDevice.IsSupported, CudaDevice.UnsupportedReason ?? "");
            return CudaDevice.Default;
        }

        public override IEnumerable<int> Some(IEnumerable<int> numbers) => numbers.Where(n => n % Part.Of == Part.Index);

        public override bool Takes(int number) => true;

        public override int Times(int onGpu) => onGpu;

        public override int Tokens(int onGpu) => onGpu;

        public override ICallersDriver OpenDriver() => new OwnDriver();

        private static (int Index, int Of) ParsePart(string? text)
        {
            if (string.IsNullOrEmpty(text)) return (0, 1);
            int[] numbers = [.. text.Split('/').Select(static part => int.Parse(part, NumberStyles.None, CultureInfo.InvariantCulture))];
            if (numbers is not [int index, int of] || index >= of) throw new FormatException($"FUSEDATTENTION_GPU_PART is '{text}'; it is k/n with k below n.");
            return (index, of);
        }
    }

    /// <summary>Everything with FUSEDATTENTION_EMULATED_ALL=1, which is many minutes; a part of it that a run in CI has the time for, otherwise.</summary>
    /// <param name="name">In names of tests.</param>
    /// <param name="share">Of so many problems one is run.</param>
    /// <param name="make">The device.</param>
    /// <param name="only">The one kernel that another emulated device does not have; null: it has its own of each.</param>
    private sealed class EmulatedGpu(string name, int share, Func<CudaDevice> make, AttentionKernel? only = null) : TestDevice
    {
        private readonly Lazy<CudaDevice> _device = new(make);

        public override CudaDevice Open() => _device.Value;

        public override bool Tests(AttentionKernel kernel) => only is null || kernel == only;

        public override IEnumerable<int> Some(IEnumerable<int> numbers) => numbers.Where(Takes);

        public override bool Takes(int number) => IsWhole || number % share == 11;

        /// <summary>In another order of blocks and warps each time.</summary>
        public override int Times(int onGpu) => Math.Min(onGpu, IsWhole ? 3 : 2);

        public override int Tokens(int onGpu) => IsWhole ? onGpu : Math.Max(Math.Min(onGpu, 12), onGpu / 6);

        public override ICallersDriver OpenDriver() => new EmulatedDriver((EmulatedRuntime)Open().Runtime);

        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{name}{(IsWhole ? ", whole" : "")}");
    }
}
