using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <content>
/// Asynchronous products (wgmma): a warp computes its own 16 of the 64 rows. Nothing of a group is computed before the warp waits for it: factors are read as late as they may be, and registers of sums are NaN
/// meanwhile.
/// </content>
internal sealed unsafe partial class Warp
{
    private readonly List<Product> _products = [];
    private readonly Dictionary<int, Sums> _sums = [];
    private int _productGroups;

    /// <summary>A product that was issued.</summary>
    /// <param name="Instruction">That did.</param>
    /// <param name="Left">The descriptor of the left factor, where it is in shared memory.</param>
    /// <param name="Right">That of the right one.</param>
    /// <param name="Adds">Whether what the sums hold counts.</param>
    /// <param name="Group">The number of its group: that of the next commit.</param>
    public readonly record struct Product(int Instruction, ulong Left, ulong Right, bool Adds, int Group);

    /// <summary>The sums of products under way, whose registers are poisoned.</summary>
    private sealed class Sums(int registers)
    {
        public float[] Values { get; } = GC.AllocateUninitializedArray<float>(registers * Machine.Lanes.Count, pinned: true);

        public int Products { get; set; }
    }

    /// <summary>Issues a product.</summary>
    public void Issue(Instruction* i, ulong left, ulong right, bool adds)
    {
        if (!_sums.TryGetValue(i->Rows[0], out Sums? sums))
        {
            sums = new(i->Count);
            _sums.Add(i->Rows[0], sums);
            for (int n = 0; n < i->Count; n++)
            {
                var row = new Span<float>(Row(i->Rows[n]), Machine.Lanes.Count);
                row.CopyTo(sums.Values.AsSpan(n * Machine.Lanes.Count));
                row.Fill(float.NaN);
            }
        }

        if (sums.Values.Length != i->Count * Machine.Lanes.Count) throw Fail(i, -1, "has sums of another shape than a product that is under way");
        sums.Products++;
        _products.Add(new(i->Index, left, right, adds, _productGroups));
    }

    /// <summary>The products since the last commit are a group.</summary>
    public void CommitProducts() => _productGroups++;

    /// <summary>All groups but the last so many end.</summary>
    public void WaitForProducts(int underWay)
    {
        int ended = 0;
        while (ended < _products.Count && _products[ended].Group < _productGroups - underWay)
        {
            Product product = _products[ended++];
            Instruction* i = Program.Code + product.Instruction;
            Sums sums = _sums[i->Rows[0]];
            fixed (float* values = sums.Values) WarpgroupOperations.Compute(this, i, product, values);
            if (--sums.Products > 0) continue;
            for (int n = 0; n < i->Count; n++) sums.Values.AsSpan(n * Machine.Lanes.Count, Machine.Lanes.Count).CopyTo(new Span<float>(Row(i->Rows[n]), Machine.Lanes.Count));
            _sums.Remove(i->Rows[0]);
        }

        _products.RemoveRange(0, ended);
        if (ended > 0) Step();
    }

    private void BeginProducts()
    {
        _products.Clear();
        _sums.Clear();
        _productGroups = 0;
    }

    private void AssertNoProducts()
    {
        if (_products.Count > 0) throw Fail(Program.Code + _products[0].Instruction, -1, "is a product that nobody has waited for when the warp ended");
    }
}
