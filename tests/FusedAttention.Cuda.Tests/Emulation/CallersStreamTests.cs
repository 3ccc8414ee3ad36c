using FusedAttention.Cuda.Tests.Driver;
using FusedAttention.Cuda.Tests.Gpu;
using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>Callers who share an emulated device, as classes of tests do that run side by side.</summary>
public sealed class CallersStreamTests
{
    /// <summary>With one handle for both, what a caller captured took the other's work with it, which then never ran.</summary>
    [Fact]
    public void What_one_caller_captures_is_not_the_others_stream()
    {
        CudaDevice device = TestDevice.Emulator.Open();
        using ICallersDriver one = TestDevice.Emulator.OpenDriver(), other = TestDevice.Emulator.OpenDriver();
        nint captured = one.CreateStream(), free = other.CreateStream();
        using CudaTensor<float> to = device.Allocate<float>(4);
        using (CudaStream stream = device.WrapStream(free))
        {
            one.BeginCapture(captured);
            to.CopyFrom([1, 2, 3, 4], stream);
            one.EndCapture(captured);
            float[] read = new float[4];
            to.CopyTo(read, stream);
            Assert.Equal([1, 2, 3, 4], read);
        }

        one.DestroyStream(captured);
        other.DestroyStream(free);
    }
}
