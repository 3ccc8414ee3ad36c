using Xunit;

namespace FusedAttention.Cuda.Tests;

public sealed class PublicApiTests
{
    [Fact]
    public void Public_surface_is_the_one_on_file() => PublicSurface.AssertIsTheOneOnFile(typeof(CudaAttention).Assembly);
}
