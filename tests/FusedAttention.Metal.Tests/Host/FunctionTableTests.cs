using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>What functions have captured on its way to the device: tables as memory of its own for as long as somebody needs them, numbers in the parameter block.</summary>
public sealed unsafe class FunctionTableTests : IDisposable
{
    private const int Tokens = 40, Heads = 2, Dim = 64;

    private readonly RecordingRuntime _runtime = new();
    private readonly MetalDevice _device;
    private readonly MetalTensor<float> _query;
    private readonly MetalTensor<float> _output;

    public FunctionTableTests()
    {
        _device = new(_runtime);
        _query = _device.Allocate<float>(Tokens, Heads, Dim);
        _output = _device.Allocate<float>(Tokens, Heads, Dim);
    }

    public void Dispose()
    {
        _query.Dispose();
        _output.Dispose();
        _device.Close();
        Assert.Equal(0, _runtime.Living);
    }

    [Fact]
    public void A_table_is_copied_once_for_all_calls()
    {
        var slopes = new ScoreTable([1, 2]);
        for (int i = 0; i < 3; i++) Forward(new AttentionOptions { ScoreFunction = ScoreFunction.Of(new LinearBias(slopes)) });
        DeviceMemory copy = Assert.Single(_runtime.Submissions.Select(static launches => TableOf(launches)).Distinct());
        Assert.Equal([1, 2], new ReadOnlySpan<float>(copy.Pointer, 2));
    }

    [Fact]
    public void Functions_of_one_form_share_a_kernel_and_tell_it_their_numbers()
    {
        KernelLaunch first = Last(Capped(3, 1, 2)), second = Last(Capped(5, 1, 2, 3));
        Assert.Same(first.Function, second.Function);
        Assert.Equal((3, 1, 2), Captured(first));
        Assert.Equal((5, 1, 3), Captured(second));

        // Constants are text, and calls without functions have the shorter block again.
        Assert.NotSame(Last(ScoreFunction.Of(new EveryOther(2))).Function, Last(ScoreFunction.Of(new EveryOther(3))).Function);
        Assert.Equal(Unsafe.SizeOf<AttentionParameters>(), Last(null).Parameters.Length);

        static ScoreFunction Capped(float cap, params float[] slopes) => ScoreFunction.Of(new LinearBias(new ScoreTable(slopes)).Then(new CapByParameter(cap)));

        static (float Number, int Rows, int Columns) Captured(KernelLaunch launch)
        {
            ReadOnlySpan<byte> captured = launch.Parameters.AsSpan(Unsafe.SizeOf<AttentionParameters>());
            ReadOnlySpan<int> shape = MemoryMarshal.Cast<byte, int>(captured)[1..];
            return (MemoryMarshal.Read<float>(captured), shape[0], shape[1]);
        }

        KernelLaunch Last(ScoreFunction? function)
        {
            Forward(new AttentionOptions { ScoreFunction = function });
            return Assert.Single(_runtime.Submissions[^1]);
        }
    }

    /// <summary>The device complains where memory goes that something under way looks up.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_table_that_nobody_has_stays_until_the_calls_that_look_it_up_have_ended(bool isBatched)
    {
        using (isBatched ? _device.Batch() : default)
        {
            ForwardOfATable();
            for (int i = 0; i < 3; i++)
            {
                Collect();
                Forward(new AttentionOptions());
            }

            if (isBatched) Assert.Empty(_runtime.Submissions);
        }

        DeviceMemory table = TableOf(_runtime.Submissions[0]);
        Assert.True(_runtime.IsLiving(table));
        AssertGoesBack(table);

        // Nothing of the last call keeps its table either.
        ForwardOfATable();
        AssertGoesBack(TableOf(_runtime.Submissions[^1]));

        void AssertGoesBack(DeviceMemory memory)
        {
            for (int i = 0; i < 20 && _runtime.IsLiving(memory); i++)
            {
                _device.Synchronize();
                Collect();
            }

            Assert.False(_runtime.IsLiving(memory));
        }

        // The function and its table are this call's alone.
        [MethodImpl(MethodImplOptions.NoInlining)]
        void ForwardOfATable() => Forward(new AttentionOptions { ScoreFunction = ScoreFunction.Of(new LinearBias(new ScoreTable([1, 2]))) });
    }

    [Fact]
    public void What_is_computed_is_that_of_the_tables_although_nobody_has_them()
    {
        using EmulatedRuntime runtime = MetalProblems.Start();
        var device = new MetalDevice(runtime);
        float[] expected = Compute(static () => { }), actual = Compute(Collect);
        device.Close();
        Assert.Equal(expected, actual);

        float[] Compute(Action between)
        {
            using MetalTensor<float> query = device.Allocate<float>(Tokens, Heads, Dim), output = device.Allocate<float>(Tokens, Heads, Dim);
            var random = new Random(5);
            foreach (ref float x in query.AsSpan()) x = random.NextSingle() - 0.5f;
            using (device.Batch())
            {
                Queue(query, output);
                between();
            }

            return output.AsSpan().ToArray();
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Queue(MetalTensor<float> query, MetalTensor<float> output)
        {
            ScoreTable table = new([.. Enumerable.Range(0, Tokens).Select(static n => 3f * (n % 7))], 1, Tokens);
            MetalAttention.Forward(query, query, query, output, new AttentionOptions { ScoreFunction = ScoreFunction.Of(new TokenProduct(table, table)) });
        }
    }

    private static DeviceMemory TableOf(KernelLaunch[] launches) => launches[0].Buffers.Single(static buffer => buffer.Index == BufferSlot.FunctionTables).Memory;

    private void Forward(AttentionOptions options) => MetalAttention.Forward(_query, _query, _query, _output, options);

    private static void Collect()
    {
        GC.Collect(2, GCCollectionMode.Forced, blocking: true);
        GC.WaitForPendingFinalizers();
        for (int i = 0; i < 50; i++) GC.AllocateArray<float>(Tokens, pinned: true).AsSpan().Fill(float.NaN);
    }
}

/// <summary>A cap that changes from call to call.</summary>
internal readonly struct CapByParameter(ScoreParameter cap) : IScoreFunction
{
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => T.Min(score, cap);
}
