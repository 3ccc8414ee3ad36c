using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <content>Products, and who issues them when.</content>
internal sealed partial class WarpgroupConsumer
{
    /// <summary>The product of the weights and values of the tile before.</summary>
    private void IssueValuesOfTileAbove()
    {
        WaitFor(_memory.ValuesFull, _values);
        IssueWeightedValues();
        _k.CommitProducts();
    }

    /// <summary>S = Q K^T.</summary>
    private void IssueScores()
    {
        (MatrixDescriptor queries, MatrixDescriptor keys) = FactorsOfScores();
        _k.FenceProducts();
        for (int step = 0; step < _memory.KeyRows.StepsOfColumns; step++)
            _k.IssueProduct(Format, _scores, queries + _memory.QueryRows.UnitsOfColumns(step), keys + _memory.KeyRows.UnitsOfColumns(step), adds: step > 0);
    }

    /// <summary>The same as a loop, since it is rare.</summary>
    private void IssueScoresAgain()
    {
        (MatrixDescriptor queries, MatrixDescriptor keys) = FactorsOfScores();
        _k.FenceProducts();
        _k.ForRolled("step", 0, _memory.KeyRows.StepsOfColumns, 1, step =>
            _k.IssueProduct(Format, _scores, queries + _memory.QueryRows.UnitsOfColumns(step), keys + _memory.KeyRows.UnitsOfColumns(step), adds: step > 0));
    }

    private (MatrixDescriptor Queries, MatrixDescriptor Keys) FactorsOfScores() =>
        (new(I32.MultiplyAdd(_queries.Index, _memory.QueryRows.Bytes >> 4, _queryLow), _descriptorHigh), new(I32.MultiplyAdd(_keys.Index, _memory.KeyRows.Bytes >> 4, _keyLow), _descriptorHigh));

    /// <summary>O += P V.</summary>
    private void IssueWeightedValues()
    {
        var values = new MatrixDescriptor(I32.MultiplyAdd(_values.Index, _memory.ValueRows.Bytes >> 4, _valueLow), _descriptorHigh);
        _k.FenceProducts();
        for (int step = 0; step < _memory.ValueRows.StepsOfRows; step++) _k.IssueProduct(Format, _outputs, _weights[(4 * step)..((4 * step) + 4)], values + BoxedRows.UnitsOfRows(step));
    }

    private void WaitFor(Shared full, StageRing ring) => _k.WaitForPhase(WarpgroupMemory.Of(full, ring), ring.Parity);

    /// <summary>The warp is done with a stage: its lanes have waited together for the products that read it.</summary>
    private void Release(Shared empty, StageRing ring)
    {
        // The address is every lane's, so that it stays where all lanes have one.
        Shared barrier = WarpgroupMemory.Of(empty, ring);
        _k.Where(_lane.Is(0), () => _k.Arrive(barrier));
        ring.Advance();
    }

    /// <summary>The first warpgroup may issue at once.</summary>
    private void BeginTurns() => _k.If(_warpgroup.Is(_tile.Consumers - 1), () => _k.ArriveAt(TurnOf(0), 2 * WarpgroupTile.WarpgroupThreads));

    private void TakeTurn() => _k.Barrier(_warpgroup + 1, 2 * WarpgroupTile.WarpgroupThreads);

    private void HandTurnOver()
    {
        I32 next = _warpgroup + 1;
        _k.ArriveAt(I32.Select(next.Is(_tile.Consumers), TurnOf(0), next + 1), 2 * WarpgroupTile.WarpgroupThreads);
    }

    /// <summary>Barrier 0 is the block's; then each warpgroup's turn, and behind those each one's own.</summary>
    private static I32 TurnOf(int warpgroup) => 1 + warpgroup;

    /// <summary>Whether it holds in any thread of the warpgroup. All of its warps must go the same way where products are issued; the vote makes of that a fact that the assembler knows.</summary>
    private Predicate IsInWarpgroup(Predicate condition) => _k.Any(_k.BarrierAny(_warpgroup + (1 + _tile.Consumers), WarpgroupTile.WarpgroupThreads, condition));

    /// <summary>
    /// A piece of text that issues products and is come to from two places. The assembler's time grows with the square of the products that write the same registers, and with more than the square of how many those are: with five groups of
    /// them, each as straight text, it took 0.8 s at D = 128 and 2.0 s at 256 (CUDA 12.4, one processor of a server), with two and a loop 0.5 and 1.0.
    /// </summary>
    /// <param name="Begin">Where it is gone to.</param>
    /// <param name="End">Where it goes on for who has come from there.</param>
    /// <param name="IsMeant">Whether it does.</param>
    private sealed record SharedProduct(string Begin, string End, Func<Predicate> IsMeant);
}
