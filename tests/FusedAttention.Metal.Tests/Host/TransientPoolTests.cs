using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

public sealed class TransientPoolTests : IDisposable
{
    private readonly RecordingRuntime _runtime = new();
    private readonly TransientPool _pool;

    public TransientPoolTests() => _pool = new(_runtime);

    public void Dispose() => _runtime.Dispose();

    [Fact]
    public void Places_are_aligned_and_do_not_overlap()
    {
        using TransientPool.Rental rental = _pool.Rent();
        MemoryPlace[] places = [rental.Take(0), rental.Take(1), rental.Take(256), rental.Take(257), rental.Take(10)];
        Assert.Equal([0, 256, 512, 768, 1280], places.Select(static place => place.Offset));
        Assert.All(places, place => Assert.Same(places[0].Memory, place.Memory));

        // What does not fit the rest of a chunk gets another.
        MemoryPlace large = rental.Take(places[0].Memory.Bytes - 1280);
        Assert.NotSame(places[0].Memory, large.Memory);
        Assert.Equal(0, large.Offset);
        Assert.Throws<ArgumentOutOfRangeException>(() => rental.Take(-1));
    }

    [Fact]
    public void Memory_is_used_again_when_its_submission_has_ended()
    {
        MemoryPlace first = Rent(1000, submission: 1);
        MemoryPlace second = Rent(1000, submission: 2);
        Assert.NotSame(first.Memory, second.Memory);
        _runtime.End(1);
        Assert.Same(first.Memory, Rent(1000, submission: 3).Memory);
        _runtime.End(2);
        Assert.Same(second.Memory, Rent(1000, submission: 4).Memory);
        _runtime.End(4);
        for (int i = 5; i < 50; i++)
        {
            Rent(100_000, submission: i);
            _runtime.End(i);
        }

        Assert.Equal(2, _pool.Chunks);
        Assert.Equal(2, _runtime.Allocations);

        // A call that was not submitted gives its memory back at once.
        MemoryPlace unused = Rent(1000, submission: 0);
        Assert.Same(unused.Memory, Rent(1000, submission: 0).Memory);
    }

    [Fact]
    public void The_smallest_chunk_that_fits_is_taken_and_idle_ones_are_bounded()
    {
        MemoryPlace large = Rent(5 << 20, submission: 0);
        Assert.Equal(8 << 20, large.Memory.Bytes);
        Assert.Equal(8 << 20, Rent(1000, submission: 0).Memory.Bytes);
        using (TransientPool.Rental holder = _pool.Rent())
        {
            holder.Take(6 << 20);
            Assert.Equal(1 << 20, Rent(1000, submission: 0).Memory.Bytes);
        }

        Assert.Equal(1 << 20, Rent(1000, submission: 0).Memory.Bytes);
        Assert.Equal(112L << 20, Rent(100 << 20, submission: 0).Memory.Bytes);

        // 8, 1, 112, 112 and 112 MB are beyond 256: two of the largest go.
        using (TransientPool.Rental a = _pool.Rent(), b = _pool.Rent(), c = _pool.Rent())
        {
            a.Take(100 << 20);
            b.Take(100 << 20);
            c.Take(100 << 20);
        }

        Rent(1, submission: 0);
        Assert.True(_runtime.Living <= 4, $"{_runtime.Living} chunks live.");
        _pool.Close();
        Assert.Equal(0, _runtime.Living);
    }

    private MemoryPlace Rent(long bytes, long submission)
    {
        while (_runtime.Submissions.Count < submission) _runtime.Submit([]);
        using TransientPool.Rental rental = _pool.Rent();
        MemoryPlace place = rental.Take(bytes);
        rental.Use(submission);
        return place;
    }
}
