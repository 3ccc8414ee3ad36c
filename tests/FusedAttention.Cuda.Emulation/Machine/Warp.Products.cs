namespace FusedAttention.Cuda.Emulation.Machine;

/// <content>Asynchronous products.</content>
internal sealed unsafe partial class Warp
{
    private void BeginProducts()
    {
    }

    private void AssertNoProducts()
    {
    }
}
