using System.Diagnostics.Tracing;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;
using FusedAttention.Paging.Storage;
using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

/// <summary>What fails in the middle of an operation, and who disposes in the middle of a call.</summary>
[Collection(AloneDefinition.Name)]
public sealed class CacheFailureTests
{
    [Fact]
    public void Tokens_whose_rows_could_not_be_stored_are_not_left_behind()
    {
        using var cache = new FailingCache(Options(blocks: 6, blockSize: 2));
        CacheSequence sequence = cache.CreateSequence();
        cache.Append<float>(sequence, [1, 2, 3], [1, 2, 3]);
        CacheSequence fork = cache.Fork(sequence);
        cache.Fails = true;
        Assert.Throws<IOException>(() => cache.Append<float>(sequence, [4, 5, 6], [4, 5, 6]));
        Assert.Equal((3, 3, 3), (cache.GetLength(sequence), cache.GetLength(fork), cache.UsedBlocks));
        cache.Fails = false;
        Assert.Equal(3, cache.Append<float>(sequence, [4], [4]));
    }

    /// <summary>The event of a call's start comes on its own thread, when everything is checked and nothing computed.</summary>
    [Fact]
    public void A_cache_disposed_while_a_call_runs_keeps_its_memory_until_the_call_has_ended()
    {
        const int Tokens = 4000, Dim = 64;
        float[] expected = Call(dispose: false), found = Call(dispose: true);
        Assert.Equal(expected, found);

        static float[] Call(bool dispose)
        {
            var cache = new PagedKeyValueCache<float>(Options(blocks: Tokens / 16, blockSize: 16, keyDim: Dim));
            CacheSequence sequence = cache.CreateSequence();
            var random = new Random(1);
            float[] rows = [.. Enumerable.Range(0, Tokens * Dim).Select(_ => (float)random.NextDouble())];
            cache.Append(sequence, rows, rows);
            PagedBatch batch = cache.CreateBatch();
            batch.Add(sequence, 2);
            Tensor<float> query = Tensor.Create(rows[..(2 * Dim)], [2, 1, Dim]), output = Tensor.CreateFromShape<float>([2, 1, Dim]);
            int disposals = 0;
            using (new CallListener(() =>
            {
                if (!dispose) return;
                long bytes = cache.Bytes;
                cache.Dispose();
                disposals++;
                Reuse(bytes);
            }))
            {
                Attention.ForwardPaged(query, output, cache, 0, batch);
            }

            Assert.Equal(dispose ? 1 : 0, disposals);
            if (dispose) Assert.Throws<ObjectDisposedException>(() => Attention.ForwardPaged(query, output, cache, 0, batch));
            cache.Dispose();
            return output.ToArray();
        }

        // Memory that was given back would be handed out again, and hold NaN.
        static unsafe void Reuse(long bytes)
        {
            void* first = NativeMemory.AlignedAlloc((nuint)bytes, 64), second = NativeMemory.AlignedAlloc((nuint)bytes, 64);
            new Span<byte>(first, (int)bytes).Fill(0xFF);
            new Span<byte>(second, (int)bytes).Fill(0xFF);
            NativeMemory.AlignedFree(first);
            NativeMemory.AlignedFree(second);
        }
    }

    private sealed class FailingCache(PagedKeyValueCacheOptions options, FailingStorage storage) : KeyValueCache(options, storage)
    {
        public FailingCache(PagedKeyValueCacheOptions options)
            : this(options, new FailingStorage(options))
        {
        }

        public bool Fails { set => storage.Fails = value; }
    }

    private sealed unsafe class FailingStorage(PagedKeyValueCacheOptions options) : BlockStorage(options, CacheFormat.Of<float>(options))
    {
        public bool Fails { get; set; }

        public override void Store(int layer, SlotRuns runs, in TokenRows keys, in TokenRows values)
        {
            if (Fails) throw new IOException("no store");
        }

        public override void Fetch(int layer, SlotRuns runs, int tokens, byte* destination) => throw new IOException("no fetch");

        public override void CopyBlock(int from, int to, int slots)
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }

    private sealed class CallListener(Action onCall) : EventListener
    {
        private readonly int _thread = Environment.CurrentManagedThreadId;

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource.Name is "FusedAttention") EnableEvents(eventSource, EventLevel.Informational);
        }

        protected override void OnEventWritten(EventWrittenEventArgs eventData)
        {
            if (eventData.EventName is "CallStart" && Environment.CurrentManagedThreadId == _thread) onCall();
        }
    }
}
