using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Ptx;
using FusedAttention.Cuda.Tests.Assembly;
using Xunit;

namespace FusedAttention.Cuda.Tests.Ptx;

/// <summary>A whole text: its head, its registers, memory, threads; and what holds of every kernel's.</summary>
public sealed class KernelTextTests
{
    [Fact]
    public void A_module_declares_its_entry_and_its_registers_and_nothing_else()
    {
        PtxKernel k = Text.Kernel();
        I32 thread = k.ThreadIndex().As("thread");
        k.Comment("half of it");
        F32 half = thread.ToF32() * 0.5f;
        F32 sum = k.Variable("sum", half);
        k.If(thread < 3, () => sum.Add(1));
        Snapshot.AssertSame(
            """
            .version 7.8
            .target sm_80
            .address_size 64

            .extern .shared .align 1024 .b8 shared_memory[];

            .visible .entry test(
                .param .align 16 .b8 call[48])
            .reqntid 64, 1, 1
            .minnctapersm 3
            {
                .reg .b32 %thread;
                .reg .f32 %f<3>;
                .reg .f32 %sum;
                .reg .pred %p<1>;
                mov.u32 %thread, %tid.x;
                // half of it
                cvt.rn.f32.s32 %f0, %thread;
                mul.f32 %f1, %f0, 0f3F000000;
                mov.f32 %sum, %f1;
                setp.lt.s32 %p0, %thread, 3;
                @!%p0 bra $endif_1;
                    add.f32 %sum, %sum, 0f3F800000;
            $endif_1:
            }

            """, k.ToString());
        Assert.StartsWith(".version 8.0\n.target sm_90a\n", Text.Kernel(PtxTarget.Sm90a).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Registers_are_named_after_what_fills_them_and_names_are_unique()
    {
        PtxKernel k = Text.Kernel();
        F32[] sums = k.Variables("s", 3, 0), others = k.Variables("s", 2, 1);
        Pair[] pairs = k.Registers<Pair>("pair", 2);
        Assert.Equal(["%s0", "%s1", "%s2", "%s0_2", "%s1_2", "%pair0", "%pair1"], ((Value[])[.. sums, .. others, .. pairs]).Select(static value => value.ToString()!).ToArray());
        I32 constant = 5;
        Assert.Equal("5", constant.As("five").ToString());
        Text.AssertSound(k);
    }

    /// <summary>Kernels change elements of an array that they have loaded: the load names what it filled.</summary>
    [Fact]
    public void A_vector_names_the_registers_that_its_array_held() => Assert.Equal(
        ["mov.b32 %shared_base, shared_memory", "ld.shared.v2.b32 {%r1, %r2}, [%shared_base]", "and.b32 %r3, %r1, 255", "st.shared.v2.b32 [%shared_base], {%r3, %r2}"],
        Text.Of(static k =>
        {
            I32[] elements = k.LoadVector<I32>(k.SharedMemory, 2);
            elements[0] &= 255;
            k.StoreVector(k.SharedMemory, elements);
            elements[1] = elements[0];
        }));

    [Fact]
    public void Memory() => Assert.Equal(
        [
            "ld.param.b64 %rd0, [call+16]", "mov.b64 %rd1, call", "cvta.param.u64 %rd2, %rd1",
            "ld.global.f32 %f0, [%rd0+8]", "ld.global.nc.f32 %f1, [%rd0+-4]", "ld.global.v4.b32 {%x0, %x1, %x2, %x3}, [%rd0]", "ld.global.u8 %r0, [%rd0+1]", "ld.b32 %r1, [%rd2]",
            "st.global.v2.f32 [%rd0+8], {%f0, %f1}", "mov.b32 %shared_base, shared_memory", "st.shared.b32 [%shared_base+64], %r0", "ld.shared.b16 %h0, [%shared_base]", "cvt.f32.f16 %f2, %h0",
            "cvt.rn.bf16.f32 %h1, %f2", "st.global.b16 [%rd0], %h1", "add.s64 %rd3, %rd0, 24",
        ],
        Text.Of(static k =>
        {
            I64 address = k.Parameter<I64>(16), parameter = k.ParameterAddress();
            var memory = new Global(address);
            F32 a = k.Load<F32>(memory + 8), b = k.Load<F32>(memory + 4 + -8, ".nc");
            k.LoadVector<Pair>(memory, 4);
            I32 flag = k.LoadByte(memory + 1);
            k.Load<I32>(new Anywhere(parameter));
            k.StoreVector(memory + 8, a, b);
            k.Store(k.SharedMemory + 64, flag);
            k.StoreElement(ElementFormat.BFloat16, memory, k.LoadElement(ElementFormat.Float16, k.SharedMemory));
            (memory + 24).ToI64();
        }).Select(static line => line.Replace("%r3", "%r1", StringComparison.Ordinal)).ToArray());

    [Fact]
    public void Threads_and_matrices() => Assert.Equal(
        [
            "shfl.sync.bfly.b32 %f1, %f0, 4, 31, 0xffffffff", "add.f32 %f2, %f0, %f1", "shfl.sync.bfly.b32 %f3, %f2, 8, 31, 0xffffffff", "add.f32 %f4, %f2, %f3", "vote.sync.any.pred %p1, %p0, 0xffffffff",
            "bar.sync 0", "bar.sync 2, 64", "bar.warp.sync 0xffffffff", "not.pred %p3, %p0", "bar.red.or.pred %p2, 0, %p3",
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%c0, %c1, %c2, %c3}, {%a0, %a1, %a2, %a3}, {%b0, %b1}, {%c0, %c1, %c2, %c3}",
        ],
        Text.Of(static k =>
        {
            F32 x = F32.In(k);
            k.Sum(x, 4, 16);
            Predicate p = Predicate.In(k);
            k.Any(p);
            k.Barrier();
            k.Barrier(2, 64);
            k.WarpBarrier();
            k.BarrierAny(!p);
            Pair[] b = k.Registers<Pair>("b", 2);
            k.AddMatrixProduct(ElementFormat.BFloat16, k.Registers<F32>("c", 4), 0, k.Registers<Pair>("a", 4), b[0], b[1]);
        }));

    /// <summary>Declarations, labels and branches of every kernel that is assembled.</summary>
    [Fact]
    public void Every_kernel_is_sound()
    {
        var hopper = new FusedAttention.Cuda.Launching.CudaDeviceDescription(0, "sm_90a", 9, 0, 132, 232448, 80L << 30, 13000);
        foreach (Specialisation specialisation in Specialisation.Cover(30, hopper))
        {
            Text.AssertSound(specialisation.Kernel switch
            {
                FusedAttention.Devices.AttentionKernel.Prefill => PrefillKernel.Write(specialisation.Traits, TileTable.Prefill(specialisation.Traits.KeyDim, specialisation.Traits.ValueDim, hopper, specialisation.Traits.Features, score: specialisation.Traits.Score)!.Value),
                FusedAttention.Devices.AttentionKernel.Decode => DecodeKernel.Write(specialisation.Traits, TileTable.Decode(specialisation.Traits.KeyDim, specialisation.Traits.ValueDim, hopper)!.Value),
                _ => PlainKernel.Write(specialisation.Traits, TileTable.PlainWarps),
            });
        }

        Text.AssertSound(MergeKernel.Write(ElementFormat.Float16, ElementFormat.BFloat16));
        foreach ((ElementFormat source, ElementFormat stored) in ((ElementFormat, ElementFormat)[])[
            (ElementFormat.Float32, ElementFormat.Float16), (ElementFormat.Float16, ElementFormat.Int8), (ElementFormat.BFloat16, ElementFormat.Float8E4M3), (ElementFormat.Int8, ElementFormat.Int8)])
            Text.AssertSound(CacheKernel.Write(source, stored));
    }
}
