using FusedAttention.Cuda.Ptx;
using Xunit;

namespace FusedAttention.Cuda.Tests.Ptx;

/// <summary>Predicates and their opposites, guards, branches and loops.</summary>
public sealed class FlowTests
{
    [Fact]
    public void An_opposite_costs_nothing_until_a_register_is_asked_for() => Assert.Equal(
        ["setp.lt.s32 %p0, %a, 5", "not.pred %p1, %p0"],
        Text.Of(static k =>
        {
            Predicate isSmall = I32.In(k).As("a") < 5;
            Predicate isLarge = !isSmall;
            Assert.Same(isSmall, !isLarge);
            Assert.Same(isSmall, isSmall.InRegister());
            Assert.Equal(("@%p0", "@!%p0"), (isSmall.Guard, isLarge.Guard));
            isLarge.InRegister();
        }));

    [Fact]
    public void Selecting_by_an_opposite_swaps_the_two() => Assert.Equal(
        ["setp.lt.s32 %p0, %a, 5", "selp.b32 %r1, 1, 2, %p0", "selp.b32 %r2, 2, 1, %p0", "selp.f32 %f0, 0f40000000, 0f3F800000, %p0", "selp.b64 %rd0, 1, 2, %p0"],
        Text.Of(static k =>
        {
            Predicate isSmall = I32.In(k).As("a") < 5;
            I32.Select(isSmall, 1, 2);
            I32.Select(!isSmall, 1, 2);
            F32.Select(!isSmall, 1, 2);
            I64.Select(isSmall, 1, 2);
        }));

    [Fact]
    public void Predicates_are_joined_in_registers() => Assert.Equal(
        ["not.pred %p2, %p0", "and.pred %p3, %p2, %p1", "not.pred %p4, %p1", "or.pred %p5, %p0, %p4", "mov.pred %p0, %p5", "not.pred %p6, %p1", "mov.pred %p0, %p6", "setp.eq.s32 %p0, 0, 0", "setp.eq.s32 %p0, 0, 1"],
        Text.Of(static k =>
        {
            Predicate a = Predicate.In(k), b = Predicate.In(k);
            _ = !a & b;
            a.Set(a | !b);
            a.Set(!b);
            a.Set(true);
            a.Set(false);
        }));

    [Fact]
    public void Guards_are_in_front_of_every_instruction_and_do_not_nest()
    {
        Assert.Equal(
            ["@%p0 add.s32 %a, %a, 1", "@%p0 add.s32 %a, %a, 2", "@!%p0 add.s32 %a, %a, 3", "add.s32 %a, %a, 4", "@%p0 exit"],
            Text.Of(static k =>
            {
                I32 a = I32.In(k).As("a");
                Predicate p = Predicate.In(k);
                k.Where(p, () =>
                {
                    a.Add(1);
                    a.Add(2);
                });
                k.Where(!p, () => a.Add(3));
                a.Add(4);
                k.ExitIf(p);
            }));
        PtxKernel kernel = Text.Kernel();
        Predicate p = Predicate.In(kernel);
        Assert.Throws<InvalidOperationException>(() => kernel.Where(p, () => kernel.Where(p, () => kernel.Exit())));
    }

    [Fact]
    public void Branches_jump_over_what_does_not_run() => Assert.Equal(
        [
            "@!%p0 bra $endif_1", "add.s32 %a, %a, 1", "$endif_1:",
            "@%p0 bra $else_2", "add.s32 %a, %a, 2", "bra.uni $endif_3", "$else_2:", "add.s32 %a, %a, 3", "$endif_3:",
        ],
        Text.Of(static k =>
        {
            I32 a = I32.In(k).As("a");
            Predicate p = Predicate.In(k);
            k.If(p, () => a.Add(1));
            k.If(!p, () => a.Add(2), () => a.Add(3));
        }));

    [Fact]
    public void Loops_ask_before_the_first_turn_and_after_each() => Assert.Equal(
        [
            "mov.b32 %i, 0", "setp.lt.s32 %p0, %i, 9", "@!%p0 bra $end_i_2", "$i_1:", "add.s32 %a, %a, %i", "add.s32 %i, %i, 4", "setp.lt.s32 %p1, %i, 9", "@%p1 bra $i_1", "$end_i_2:",
            "$pass_3:", "add.s32 %a, %a, 1", "setp.ne.s32 %p2, %a, 0", "@%p2 bra $pass_3",
        ],
        Text.Of(static k =>
        {
            I32 a = I32.In(k).As("a");
            k.For("i", 0, 9, 4, a.Add);
            k.Repeat("pass", () =>
            {
                a.Add(1);
                return a.IsNot(0);
            });
        }));

    [Fact]
    public void Rolled_loops_say_that_they_stay_loops() => Assert.Equal(
        ["mov.b32 %i, 0", "setp.lt.s32 %p0, %i, 9", "@!%p0 bra $end_i_2", "$i_1:", ".pragma \"nounroll\"", "add.s32 %a, %a, %i", "add.s32 %i, %i, 4", "setp.lt.s32 %p1, %i, 9", "@%p1 bra $i_1", "$end_i_2:"],
        Text.Of(static k => k.ForRolled("i", 0, 9, 4, I32.In(k).As("a").Add)));

    [Fact]
    public void Places_are_gone_to_from_elsewhere() => Assert.Equal(
        ["bra.uni $shared_1", "$back_2:", "add.s32 %a, %a, 1", "$shared_1:", "add.s32 %a, %a, 2", "setp.lt.s32 %p0, %a, 9", "@%p0 bra $back_2"],
        Text.Of(static k =>
        {
            I32 a = I32.In(k).As("a");
            (string shared, string back) = (k.NewPlace("shared"), k.NewPlace("back"));
            k.GoTo(shared);
            k.Mark(back);
            a.Add(1);
            k.Mark(shared);
            a.Add(2);
            k.GoTo(back, a < 9);
        }));

    [Fact]
    public void Labels_and_names_are_unique_however_often_a_loop_is_written()
    {
        string[] lines = Text.Of(static k =>
        {
            for (int n = 0; n < 3; n++) k.For("i", 0, 4, 1, i => k.For("i", i, 4, 1, _ => k.If(i < 2, k.Exit, k.Exit)));
        });
        Assert.Equal(3 * 2 * 3, lines.Count(static line => line.EndsWith(':')));
        Assert.Equal(["%i", "%i_2", "%i_3", "%i_4", "%i_5", "%i_6"], lines.Where(static line => line.StartsWith("mov.b32", StringComparison.Ordinal)).Select(static line => line.Split(' ')[1].TrimEnd(',')).ToArray());
    }
}
