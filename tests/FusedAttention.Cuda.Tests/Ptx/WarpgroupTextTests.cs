using FusedAttention.Cuda.Ptx;
using Xunit;

namespace FusedAttention.Cuda.Tests.Ptx;

/// <summary>Instructions of compute capability 9.0: barriers that count, boxes of tensors, products of warpgroups.</summary>
public sealed class WarpgroupTextTests
{
    [Fact]
    public void Arrivals() => Assert.Equal(
        [
            "mov.b32 %shared_base, shared_memory", "mbarrier.init.shared::cta.b64 [%shared_base+8], 4", "fence.mbarrier_init.release.cluster",
            "mbarrier.arrive.shared::cta.b64 _, [%shared_base+8]", "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%shared_base+8], 4096",
            "mov.b32 %parity, 1", "mbarrier.try_wait.parity.shared::cta.b64 %p0, [%shared_base+8], %parity", "@%p0 bra $end_wait_2",
            "$wait_1:", "mbarrier.try_wait.parity.shared::cta.b64 %p1, [%shared_base+8], %parity", "@!%p1 bra $wait_1", "$end_wait_2:",
        ],
        Text.Of(static k =>
        {
            Shared barrier = k.SharedMemory + 8;
            k.InitializeArrivals(barrier, 4);
            k.PublishArrivals();
            k.Arrive(barrier);
            k.ArriveExpecting(barrier, 4096);
            k.WaitForPhase(barrier, k.Variable("parity", (I32)1));
        }));

    /// <summary>Where waits are counted, one that lasts too long ends the launch with an error instead of hanging.</summary>
    [Fact]
    public void Waits_that_are_counted_trap()
    {
        var k = new PtxKernel("test", PtxTarget.Sm90a, threads: 64, blocks: 1, parameterBytes: 48) { MostPolls = 1000 };
        k.WaitForPhase(k.SharedMemory, 0);
        Text.AssertSound(k);
        Assert.Equal(
            [
                "mov.b32 %shared_base, shared_memory;", "mbarrier.try_wait.parity.shared::cta.b64 %p0, [%shared_base], 0;", "@%p0 bra $end_wait_2;", "mov.b32 %polls, 0;", "$wait_1:",
                "add.s32 %polls, %polls, 1;", "setp.gt.s32 %p1, %polls, 1000;", "@%p1 trap;", "mbarrier.try_wait.parity.shared::cta.b64 %p2, [%shared_base], 0;", "@!%p2 bra $wait_1;", "$end_wait_2:",
            ],
            Text.Body(k));
    }

    [Fact]
    public void Boxes() => Assert.Equal(
        [
            "mov.b64 %rd0, call", "cvta.param.u64 %map, %rd0", "elect.sync %elected_lane|%is_elected, 0xffffffff", "@%is_elected prefetch.tensormap [%map]", "mov.b32 %shared_base, shared_memory",
            "mov.u32 %head, %ctaid.x",
            "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%shared_base+1024], [%map, {64, 0, %head, 3}], [%shared_base]",
            "fence.proxy.async.shared::cta", "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%map, {0, %head, 1}], [%shared_base+2048]", "cp.async.bulk.commit_group",
            "cp.async.bulk.wait_group.read 0",
        ],
        Text.Of(static k =>
        {
            I64 map = k.ParameterAddress().As("map");
            (Predicate isElected, _) = k.ElectLane();
            k.Where(isElected, () => k.PrefetchMap(map));
            Shared memory = k.SharedMemory;
            I32 head = k.BlockX();
            k.CopyBox(memory + 1024, new(map, 64, 0, head, 3), memory);

            // Registers are printed by the names that they have in the end.
            head.SetName("head");
            k.FenceAsyncProxy();
            k.StoreBox(new(map, 0, head, 1), memory + 2048);
            k.CommitBoxes();
            k.WaitForBoxes(0);
        }));

    [Fact]
    public void Products() => Assert.Equal(
        [
            "mov.b32 %high, 1073741888", "wgmma.fence.sync.aligned", "mov.b32 %low, 7", "add.s32 %r2, %low, 2", "mov.b64 %rd0, {%r2, %high}", "mov.b64 %rd1, {%low, %high}",
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%s0, %s1, %s2, %s3}, %rd0, %rd1, 0, 1, 1, 0, 0", "not.pred %p1, %p0", "mov.b64 %rd2, {%low, %high}", "mov.b64 %rd3, {%low, %high}",
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%s0, %s1, %s2, %s3}, %rd2, %rd3, %p1, 1, 1, 0, 0", "mov.b64 %rd4, {%low, %high}",
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%s0, %s1, %s2, %s3}, {%a0, %a1, %a2, %a3}, %rd4, 1, 1, 1, 1", "wgmma.commit_group.sync.aligned", "wgmma.wait_group.sync.aligned 1",
            "setmaxnreg.dec.sync.aligned.u32 24", "setmaxnreg.inc.sync.aligned.u32 240", "mov.b32 %shared_base, shared_memory",
            "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%shared_base], {%a0, %a1, %a2, %a3}",
        ],
        Text.Of(static k =>
        {
            I32 high = k.Variable("high", (I32)Kernels.BoxedRows.DescriptorHigh);
            k.FenceProducts();
            MatrixDescriptor matrix = new(k.Variable("low", (I32)7), high);
            F32[] sums = k.Registers<F32>("s", 4);
            Pair[] left = k.Registers<Pair>("a", 4);
            k.IssueProduct(ElementFormat.Float16, sums, matrix + 2, matrix, adds: false);
            k.IssueProduct(ElementFormat.Float16, sums, matrix, matrix, !Predicate.In(k));
            k.IssueProduct(ElementFormat.BFloat16, sums, left, matrix);
            k.CommitProducts();
            k.WaitForProducts(1);
            k.LowerRegisters(24);
            k.RaiseRegisters(240);
            k.StoreMatrices(k.SharedMemory, left);
        }));

    [Fact]
    public void Barriers_by_number() => Assert.Equal(
        ["mov.b32 %turn, 2", "bar.sync %turn, 256", "bar.arrive %turn, 256", "bar.red.or.pred %p1, %turn, 128, %p0"],
        Text.Of(static k =>
        {
            I32 turn = k.Variable("turn", (I32)2);
            k.Barrier(turn, 256);
            k.ArriveAt(turn, 256);
            k.BarrierAny(turn, 128, Predicate.In(k));
        }));

    [Fact]
    public void Barriers_of_a_team() => Assert.Equal(
        ["bar.sync 0", "bar.sync 1, 128", "bar.red.or.pred %p1, 1, 128, %p0", "bar.red.or.pred %p2, 0, 160, %p0", "bar.sync 0"],
        Text.Of(static k =>
        {
            k.Barrier();
            k.AsTeam(1, 128, () =>
            {
                k.Barrier();
                Predicate p = Predicate.In(k);
                k.BarrierAny(p);
                k.BarrierAny(0, 160, p);
                Assert.Throws<InvalidOperationException>(() => k.AsTeam(2, 64, static () => { }));
            });
            k.Barrier();
        }));

    [Fact]
    public void Boxes_that_are_read_once() => Assert.Equal(
        [
            "createpolicy.fractional.L2::evict_first.b64 %evict_first, 1.0", "mov.b32 %shared_base, shared_memory",
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%shared_base+1024], [%rd1, {0, 64}], [%shared_base], %evict_first",
        ],
        Text.Of(static k =>
        {
            I64 policy = k.EvictFirst();
            k.CopyBox(k.SharedMemory + 1024, new(I64.In(k), 0, 64), k.SharedMemory, policy);
        }));
}
