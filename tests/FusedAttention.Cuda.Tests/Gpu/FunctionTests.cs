using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Memory;
using FusedAttention.Cuda.Tests.Driver;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Score and mask functions in every kernel: the reference set, random problems beside all other features, bits, what functions hide, and tables that outlive their owner's interest.</summary>
public abstract class FunctionTests
{
    private protected FunctionTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    [Fact]
    public void Reference_cases_pass_in_every_kernel_that_takes_them()
    {
        CudaDevice device = Problems.Open();
        string[] names = ReferenceData.Names(ReferenceData.Functions);
        using CudaStream stream = device.CreateStream();
        string[] failures = [.. names.SelectMany(name => ((AttentionKernel?[])[null, .. GpuProblems.Kernels]).Select(kernel => (name, Text: ReferenceTests.RunFile(Path.Combine(ReferenceData.Functions, name + ".safetensors"), kernel, stream))))
            .Where(static failure => failure.Text.Length > 0).Select(static failure => $"{failure.name}: {failure.Text}")];
        Assert.True(failures.Length == 0, $"{failures.Length} failures in {names.Length} cases:\n{string.Join('\n', failures)}");
    }

    [Fact]
    public void Results_are_within_the_error_limit_of_the_oracle() => Problems.ForEach(Enumerable.Range(0, 140), (configuration, stream) =>
    {
        using GpuCaller chosen = new(stream.Device, null, stream), prefill = new(stream.Device, AttentionKernel.Prefill, stream), decode = new(stream.Device, AttentionKernel.Decode, stream);
        using GpuCaller plain = new(stream.Device, AttentionKernel.Plain, stream);
        GpuCaller[] forced = [prefill, decode, plain];
        for (int n = 0; n < 9; n++)
        {
            (Problem problem, Arrangement arrangement, int shift, ProblemGenerator generator) = GpuConfiguration.Next(configuration, 840_001 + (configuration * 100) + n);
            problem = TestFunctions.Add(generator, problem);
            Solution solution = RowByRow.Solve(problem);
            foreach (GpuCaller caller in (GpuCaller[])[chosen, forced[n % 3]])
            {
                caller.Shift = shift;
                if (GpuProblems.TryRun(problem, arrangement, caller) is { } result)
                    GpuProblems.AssertClose(result, problem, solution, caller.Forced, $"configuration {configuration}, shifted by {shift} elements, {arrangement}");
            }
        }
    });

    [Fact]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give() => Problems.ForEach(Enumerable.Range(0, 70), (configuration, stream) =>
    {
        using GpuCaller chosen = new(stream.Device, null, stream), prefill = new(stream.Device, AttentionKernel.Prefill, stream), decode = new(stream.Device, AttentionKernel.Decode, stream);
        using GpuCaller plain = new(stream.Device, AttentionKernel.Plain, stream);
        GpuCaller[] forced = [prefill, decode, plain];
        for (int n = 0; n < 6; n++)
        {
            (Problem problem, Arrangement arrangement, int shift, ProblemGenerator generator) = GpuConfiguration.Next(configuration, 850_001 + (configuration * 100) + n);
            problem = TestFunctions.Add(generator, problem);
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            foreach (GpuCaller caller in (GpuCaller[])[chosen, forced[n % 3]])
            {
                caller.Shift = shift;
                HiddenKeys.AssertHidden(problem, victims, special => GpuProblems.TryRun(special, arrangement, caller));
            }
        }
    });

    /// <summary>A key that its score excludes is not seen, whatever its value: where values are looked at one by one, the score is asked for again.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5)]
    [InlineData(nameof(AttentionKernel.Prefill), 70)]
    [InlineData(nameof(AttentionKernel.Decode), 4)]
    public void Keys_that_their_scores_exclude_may_hold_anything(string kernel, int queries)
    {
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        Problems.Open(family);
        (Problem problem, (int, int, float)[] specials) = HiddenKeyProblems.ExcludedByScore(queries);
        CallResult expected = Problems.Run(HiddenKeyProblems.WithValues(problem, specials, isZero: true), null, family);
        Assert.All(expected.Output[0], static x => Assert.True(float.IsFinite(x)));
        Problems.Run(HiddenKeyProblems.WithValues(problem, specials, isZero: false), null, family).AssertSameBits(expected, $"{family}: {problem}");
    }

    /// <summary>A cap makes a number of the negative infinity of a bias, and the key is seen, an infinite value too.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5)]
    [InlineData(nameof(AttentionKernel.Prefill), 70)]
    [InlineData(nameof(AttentionKernel.Decode), 4)]
    public void A_function_after_a_bias_has_the_last_word(string kernel, int queries)
    {
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        Problems.Open(family);
        Problem problem = HiddenKeyProblems.CappedAfterBias(queries);
        GpuProblems.AssertClose(Problems.Run(problem, null, family), problem, RowByRow.Solve(problem), family);
        CallResult infinite = Problems.Run(HiddenKeyProblems.WithValues(problem, [(20, 3, float.PositiveInfinity)], isZero: false), null, family);
        for (int i = 0; i < infinite.Output[0].Length; i++) Assert.Equal(i % problem.ValueDim == 3, float.IsPositiveInfinity(infinite.Output[0][i]));
    }

    /// <summary>Each head has a window of its own, of which the others see nothing: which tiles are read is a matter of the head, and of its sequence.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5)]
    [InlineData(nameof(AttentionKernel.Prefill), 70)]
    [InlineData(nameof(AttentionKernel.Decode), 4)]
    public void A_mask_function_may_keep_other_keys_for_each_head(string kernel, int queries)
    {
        const int Keys = 600;
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        Problems.Open(family);
        Problem problem = HiddenKeyProblems.Of(queries, Keys, AttentionElementType.Float16, "nothing");
        int heads = problem.Heads;
        float[] kept = [.. Enumerable.Range(0, heads * Keys).Select(i => i % Keys * heads / Keys == i / Keys ? 1f : 0)];
        problem = problem with { Options = problem.Options with { MaskFunction = MaskFunction.Of(new ListedByHead(new ScoreTable(kept, heads, Keys))) } };
        GpuProblems.AssertClose(Problems.Run(problem, null, family), problem, RowByRow.Solve(problem), family);
    }

    /// <summary>Each query sees a stretch of keys of its own, of which its neighbours see nothing: whatever rows an item begins and ends with, in the midst of a query's heads too, its tiles are those of all of them.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5)]
    [InlineData(nameof(AttentionKernel.Prefill), 70)]
    [InlineData(nameof(AttentionKernel.Prefill), 120)]
    [InlineData(nameof(AttentionKernel.Decode), 4)]
    public void A_mask_function_may_keep_other_keys_for_each_query(string kernel, int queries)
    {
        const int Stretch = 64;
        int keys = queries * Stretch;
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        Problems.Open(family);
        Problem problem = HiddenKeyProblems.Of(queries, keys, AttentionElementType.Float16, "nothing");
        float[] kept = [.. Enumerable.Range(0, queries * keys).Select(i => i % keys / Stretch == i / keys ? 1f : 0)];
        problem = problem with { Options = problem.Options with { MaskFunction = MaskFunction.Of(new ListedByQuery(new ScoreTable(kept, queries, keys))) } };
        GpuProblems.AssertClose(Problems.Run(problem, null, family), problem, RowByRow.Solve(problem), family);
    }

    [Fact]
    public void Neighbours_in_the_batch_do_not_change_a_bit() => Problems.ForEach(Enumerable.Range(0, 70), (configuration, stream) =>
    {
        using GpuCaller caller = new(stream.Device, null, stream);
        for (int n = 0; n < 3; n++)
        {
            Problem problem = TestFunctions.AddSame(GpuConfiguration.Next(configuration, 860_001 + (configuration * 100) + n).Problem, n);
            CallResult together = GpuProblems.Run(problem, null, caller);
            for (int s = 0; s < problem.Sequences; s++)
            {
                CallResult alone = GpuProblems.Run(problem.Only(s), null, caller);
                CallResult.AssertSameBits(together.Output[s], alone.Output[0], $"sequence {s} alone, {problem}");
                CallResult.AssertSameBits(together.LogSumExp![s], alone.LogSumExp![0], $"log-sum-exp of sequence {s} alone, {problem}");
            }
        }
    });

    /// <summary>What a graph looks up stays although nobody else has it any more, and goes with the stream.</summary>
    [Fact]
    public void Tables_live_as_long_as_a_graph_that_looks_them_up()
    {
        const int Tokens = 40, Heads = 2, Dim = 64;
        CudaDevice device = Problems.Open();
        using CudaTensor<Half> q = Noise(device, 1, Tokens, Heads, Dim), k = Noise(device, 2, Tokens, Heads, Dim), o = device.Allocate<Half>(Tokens, Heads, Dim);
        Half[] expected = new Half[Tokens * Heads * Dim], actual = new Half[expected.Length];
        WeakReference<TensorMemory>? held = null;
        using ICallersDriver own = Problems.Target.OpenDriver();
        own.Use(device, _ =>
        {
            nint handle = own.CreateStream();
            using (CudaStream stream = device.WrapStream(handle))
            {
                own.BeginCapture(handle);
                held = Forward(stream);
                nint graph = own.EndCapture(handle);
                Forward(null);
                o.CopyTo(expected);
                for (int i = 0; i < 3; i++)
                {
                    Collect();
                    o.CopyFrom(new Half[expected.Length]);
                    device.Synchronize();
                    own.LaunchGraph(graph, handle);
                    stream.Synchronize();
                    o.CopyTo(actual);
                    Assert.Equal(expected, actual);
                }

                Assert.True(held.TryGetTarget(out TensorMemory? memory) && !memory.IsClosed);
                own.DestroyGraph(graph);
            }

            own.DestroyStream(handle);
        });
        for (int i = 0; i < 20 && IsThere(held!); i++) Collect();
        Assert.False(IsThere(held!), "The copy of a table that nobody has is still there.");

        // The function and its table are this call's alone.
        [MethodImpl(MethodImplOptions.NoInlining)]
        WeakReference<TensorMemory> Forward(CudaStream? stream)
        {
            var table = new ScoreTable(Enumerable.Range(0, Tokens).Select(static n => 3f * (n % 7)).ToArray());
            var options = new AttentionOptions { ScoreFunction = ScoreFunction.Of(new TokenProduct(table, table)) };
            CudaAttention.Forward(q, k, k, o, options, stream: stream);
            return new(device.FunctionTables.Of(table));
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static bool IsThere(WeakReference<TensorMemory> memory) => memory.TryGetTarget(out _);
    }

    private static void Collect()
    {
        GC.Collect(2, GCCollectionMode.Forced, blocking: true);
        GC.WaitForPendingFinalizers();
        for (int i = 0; i < 50; i++) GC.AllocateArray<float>(40, pinned: true).AsSpan().Fill(float.NaN);
    }

    private static CudaTensor<Half> Noise(CudaDevice device, int seed, params ReadOnlySpan<nint> lengths)
    {
        var random = new Random(seed);
        CudaTensor<Half> tensor = device.Allocate<Half>(lengths);
        Half[] values = new Half[tensor.FlattenedLength];
        for (int i = 0; i < values.Length; i++) values[i] = (Half)((random.NextSingle() * 2) - 1);
        tensor.CopyFrom(values);
        return tensor;
    }
}

/// <summary>Keeps keys that a table has for the head.</summary>
internal readonly struct ListedByHead(ScoreTable keys) : IMaskFunction
{
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => keys.At(at.Head, at.Key) > 0;
}

/// <summary>Keeps keys that a table has for the query.</summary>
internal readonly struct ListedByQuery(ScoreTable keys) : IMaskFunction
{
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => keys.At(at.Query, at.Key) > 0;
}

/// <summary>Keeps keys that a table has.</summary>
internal readonly struct Listed(ScoreTable keys) : IMaskFunction
{
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => keys.At(at.Key) > 0;
}
