using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Memory;

/// <summary>
/// Shared memory of a block of threads, which knows of each byte whether it was written, and of each word of four bytes who wrote it last and who has read it since: two accesses to a word of which one
/// writes must have a barrier, or another order, between them.
/// </summary>
/// <remarks>
/// <para>Order is kept by vector clocks (FastTrack: Flanagan, Freund 2009). Each agent, a warp or an engine that copies for it, has a clock that steps whenever it releases something; <see cref="Agent.Seen"/> has what
/// it knows of the others' clocks. An access is ordered before another agent's if that one has seen the clock at which it was made. Lanes of a warp are ordered by the warp's own clock, which steps at each
/// of the warp's barriers too.</para>
/// <para>Accesses narrower than a word count for the whole word. Clocks never fall, so nothing has to be forgotten between two blocks.</para>
/// </remarks>
internal sealed unsafe class SharedMemory : IDisposable
{
    /// <summary>Where shared memory begins: as on the hardware not at 0, so that an address that was never set is out of it.</summary>
    public const uint Base = 1024;

    /// <summary>Warps of the largest block, and one for the engine that copies tiles.</summary>
    public const int MostAgents = 33;

    public const int CopyEngine = 32;

    private const int LaneShift = 25;
    private const int AgentShift = 31;

    /// <summary>A clock beyond this does not fit a record: blocks begin anew then.</summary>
    public const uint MostClock = (1u << LaneShift) - 1;

    /// <summary>In a record of readers: more lanes than one.</summary>
    private const uint SeveralLanes = 63;

    /// <summary>A writer's record without its lane.</summary>
    private const ulong AnyLane = ~(63UL << LaneShift);

    /// <summary>What <see cref="_written"/> has of a byte that a copy is under way to; 1 of one that was written, 0 of one that was not.</summary>
    private const byte UnderWay = 2;

    private readonly byte* _written;
    private readonly ulong* _writers;
    private readonly uint*[] _readers = new uint*[MostAgents];
    private readonly Dictionary<int, uint[]> _atomics = [];
    private readonly int _words;
    private int[] _active = [];
    private bool _hasAtomics;

    public SharedMemory(int bytes)
    {
        Bytes = bytes;
        _words = (bytes + 3) / 4;
        Pointer = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(64, bytes), 1024);
        _written = (byte*)NativeMemory.AllocZeroed((nuint)bytes + 64);
        _writers = (ulong*)NativeMemory.AllocZeroed((nuint)_words + 16, sizeof(ulong));
    }

    public int Bytes { get; }

    public byte* Pointer { get; }

    /// <summary>Nothing is written, and everything is NaN, whatever its type.</summary>
    public void Reset()
    {
        NativeMemory.Fill(Pointer, (nuint)Bytes, 0xFF);
        NativeMemory.Clear(_written, (nuint)Bytes);
        _atomics.Clear();
        _hasAtomics = false;
    }

    /// <summary>Forgets all clocks: for the case that they have become too large.</summary>
    public void ForgetClocks()
    {
        NativeMemory.Clear(_writers, (nuint)_words * sizeof(ulong));
        foreach (uint* readers in _readers)
            if (readers != null) NativeMemory.Clear(readers, (nuint)_words * sizeof(uint));
    }

    /// <summary>Checks a read and notes it. The address is a multiple of the bytes, which are 1, 2, 4, 8 or 16.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* Read(Agent agent, Instruction* i, int lane, uint address, int bytes)
    {
        uint at = address - Base;
        if (at > (uint)Bytes || (uint)Bytes - at < (uint)bytes || (at & (uint)(bytes - 1)) != 0) throw agent.Fail(i, lane, $"reads {bytes} bytes of shared memory at 0x{address:x}: {Where(address, bytes)}");
        if (!IsWritten(at, bytes)) FailUnwritten(agent, i, lane, at, bytes);
        NoteRead(agent, i, lane, at, bytes);
        return Pointer + at;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void NoteRead(Agent agent, Instruction* i, int lane, uint at, int bytes)
    {
        int first = (int)(at >> 2);
        uint* readers = ReadersOf(agent.Number) + first;
        uint record = agent.Clock | ((uint)lane << LaneShift), several = agent.Clock | (SeveralLanes << LaneShift);
        if (bytes == 16)
        {
            if (!AreOrdered(agent, first)) CheckWriters(agent, i, lane, first, 4);
            Vector128<uint> before = *(Vector128<uint>*)readers;
            Vector128<uint> isFirst = Vector128.Equals(before, Vector128.Create(record)) | ~Vector128.Equals(before & Vector128.Create(MostClock), Vector128.Create(agent.Clock));
            *(Vector128<uint>*)readers = Vector128.ConditionalSelect(isFirst, Vector128.Create(record), Vector128.Create(several));
            return;
        }

        int words = bytes == 8 ? 2 : 1;
        for (int word = 0; word < words; word++)
        {
            if ((_writers[first + word] & AnyLane) != agent.LastOrdered || _hasAtomics) CheckWriter(agent, i, lane, first + word);
            uint before = readers[word];
            readers[word] = before == record || (before & MostClock) != agent.Clock ? record : several;
        }
    }

    /// <summary>Checks a write and notes it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* Write(Agent agent, Instruction* i, int lane, uint address, int bytes)
    {
        uint at = address - Base;
        if (at > (uint)Bytes || (uint)Bytes - at < (uint)bytes || (at & (uint)(bytes - 1)) != 0) throw agent.Fail(i, lane, $"writes {bytes} bytes of shared memory at 0x{address:x}: {Where(address, bytes)}");
        NoteWrite(agent, i, lane, at, bytes);
        MarkWritten(at, bytes);
        return Pointer + at;
    }

    /// <summary>
    /// Checks a read of 16 bytes by products or the copy engine on a warp's behalf: what warps wrote must have passed their fence to the asynchronous proxy. Products may read what nobody has written, whole
    /// tiles as they do, and get NaN; who uses that will have it in his results.
    /// </summary>
    public byte* ReadAsynchronously(Warp warp, Instruction* i, int lane, uint address, bool mayBeUnwritten)
    {
        const int Chunk = 16;
        uint at = address - Base;
        if (at > (uint)Bytes || (uint)Bytes - at < Chunk || at % Chunk != 0) throw warp.Fail(i, lane, $"reads 16 bytes of shared memory at 0x{address:x}: {Where(address, Chunk)}");
        if (!IsWritten(at, Chunk) && (!mayBeUnwritten || new ReadOnlySpan<byte>(_written + at, Chunk).Contains(UnderWay))) FailUnwritten(warp, i, lane, at, Chunk);
        NoteRead(warp, i, lane, at, Chunk);
        byte* from = Pointer + at;
        for (int word = (int)(at >> 2); word < (int)(at >> 2) + 4; word++)
        {
            int writer = (int)(_writers[word] >> AgentShift);
            uint clock = (uint)_writers[word] & MostClock;
            if (clock != 0 && writer != CopyEngine && warp.Block.WarpAt(writer).FencedClock < clock)
                throw warp.Fail(i, lane, $"reads shared memory at {word * 4} by the asynchronous proxy, and warp {writer}, which has written it, had no fence.proxy.async behind that");
        }

        return from;
    }

    /// <summary>A copy to here begins: what was there is gone, and what comes is not there yet.</summary>
    public void BeginCopy(Agent agent, Instruction* i, int lane, uint address, int bytes)
    {
        byte* to = Write(agent, i, lane, address, bytes);
        new Span<byte>(to, bytes).Fill(0xFF);
        new Span<byte>(_written + (address - Base), bytes).Fill(UnderWay);
    }

    /// <summary>It has ended: whoever is ordered behind the agent now sees it.</summary>
    public byte* EndCopy(Agent agent, Instruction* i, int lane, uint address, int bytes)
    {
        uint at = address - Base;
        NoteWrite(agent, i, lane, at, bytes);
        MarkWritten(at, bytes);
        return Pointer + at;
    }

    /// <summary>Checks an atomic operation, which is in order with others of its kind, and notes it.</summary>
    public byte* Atomic(Agent agent, Instruction* i, int lane, uint address, int bytes)
    {
        uint at = address - Base;
        if (at > (uint)Bytes || (uint)Bytes - at < (uint)bytes || (at & (uint)(bytes - 1)) != 0) throw agent.Fail(i, lane, $"adds to {bytes} bytes of shared memory at 0x{address:x}: {Where(address, bytes)}");
        if (!IsWritten(at, bytes)) throw agent.Fail(i, lane, $"adds to {bytes} bytes of shared memory at {at} that nobody has written");
        for (int word = (int)(at >> 2); word <= (int)((at + (uint)bytes - 1) >> 2); word++)
        {
            CheckWriter(agent, i, lane, word, isAtomic: true);
            foreach (int reader in _active) CheckReader(agent, i, lane, word, reader);
            if (!_atomics.TryGetValue(word, out uint[]? clocks)) _atomics.Add(word, clocks = new uint[MostAgents]);
            clocks[agent.Number] = agent.Clock;
            _hasAtomics = true;
        }

        return Pointer + at;
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(Pointer);
        NativeMemory.Free(_written);
        NativeMemory.Free(_writers);
        foreach (uint* readers in _readers) NativeMemory.Free(readers);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool IsWritten(uint at, int bytes) => bytes switch
    {
        16 => *(ulong*)(_written + at) == 0x0101010101010101 && *(ulong*)(_written + at + 8) == 0x0101010101010101,
        8 => *(ulong*)(_written + at) == 0x0101010101010101,
        4 => *(uint*)(_written + at) == 0x01010101,
        2 => *(ushort*)(_written + at) == 0x0101,
        _ => _written[at] == 1,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void MarkWritten(uint at, int bytes)
    {
        switch (bytes)
        {
            case 16: *(ulong*)(_written + at) = *(ulong*)(_written + at + 8) = 0x0101010101010101; break;
            case 8: *(ulong*)(_written + at) = 0x0101010101010101; break;
            case 4: *(uint*)(_written + at) = 0x01010101; break;
            case 2: *(ushort*)(_written + at) = 0x0101; break;
            default: _written[at] = 1; break;
        }
    }

    private static string Stands(bool isUnderWay) => isUnderWay ? "that a copy is still under way to" : "that nobody has written";

    private void FailUnwritten(Agent agent, Instruction* i, int lane, uint at, int bytes) =>
        throw agent.Fail(i, lane, $"reads {bytes} bytes of shared memory at {at} {Stands(new ReadOnlySpan<byte>(_written + at, bytes).Contains(UnderWay))}");

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void NoteWrite(Agent agent, Instruction* i, int lane, uint at, int bytes)
    {
        ulong record = agent.Clock | ((ulong)lane << LaneShift) | ((ulong)(uint)agent.Number << AgentShift);
        int first = (int)(at >> 2), last = (int)((at + (uint)bytes - 1) >> 2);
        if (bytes == 16)
        {
            if (!AreOrdered(agent, first)) CheckWriters(agent, i, lane, first, 4);
            *(Vector256<ulong>*)(_writers + first) = Vector256.Create(record);
        }
        else
        {
            CheckWriters(agent, i, lane, first, last - first + 1);
            for (int word = first; word <= last; word++) _writers[word] = record;
        }

        // Four words at a time; beyond the last one there is room.
        foreach (int reader in _active)
        {
            uint limit = reader == agent.Number ? agent.Clock - 1 : agent.Seen[reader];
            Vector128<uint> clocks = *(Vector128<uint>*)(_readers[reader] + first) & Vector128.Create(MostClock);
            if (last - first < 4 && Vector128.LessThanOrEqualAll(clocks, Vector128.Create(limit))) continue;
            for (int word = first; word <= last; word++) CheckReader(agent, i, lane, word, reader);
        }
    }

    /// <summary>Whether four words have a writer, or several lanes of one, that is known to be ordered before this agent.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool AreOrdered(Agent agent, int first) =>
        !_hasAtomics && Vector256.EqualsAll(*(Vector256<ulong>*)(_writers + first) & Vector256.Create(AnyLane), Vector256.Create(agent.LastOrdered));

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void CheckWriters(Agent agent, Instruction* i, int lane, int first, int words)
    {
        for (int word = first; word < first + words; word++) CheckWriter(agent, i, lane, word);
    }

    private uint* ReadersOf(int agent)
    {
        uint* readers = _readers[agent];
        if (readers != null) return readers;
        _active = [.. _active, agent];
        return _readers[agent] = (uint*)NativeMemory.AllocZeroed((nuint)_words + 16, sizeof(uint));
    }

    /// <summary>The word's last writer must be ordered before this access.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void CheckWriter(Agent agent, Instruction* i, int lane, int word, bool isAtomic = false)
    {
        ulong record = _writers[word];
        if (record == 0) return;
        int writer = (int)(record >> AgentShift), writerLane = (int)(record >> LaneShift & 63);
        uint clock = (uint)record & MostClock;
        bool isOrdered = writer == agent.Number ? clock < agent.Clock || writerLane == lane : agent.Seen[writer] >= clock;
        if (!isOrdered) throw agent.Fail(i, lane, $"touches shared memory at {word * 4}, which {agent.NameOf(writer)}, lane {writerLane}, has written without a barrier between the two");
        if (clock < agent.Clock || writer != agent.Number) agent.LastOrdered = record & AnyLane;
        if (_hasAtomics && !isAtomic && _atomics.TryGetValue(word, out uint[]? clocks)) CheckAtomics(agent, i, lane, word, clocks);
    }

    private void CheckReader(Agent agent, Instruction* i, int lane, int word, int reader)
    {
        uint record = _readers[reader][word], clock = record & MostClock;
        bool isOrdered = reader == agent.Number ? clock < agent.Clock || record >> LaneShift == (uint)lane : agent.Seen[reader] >= clock;
        if (!isOrdered) throw agent.Fail(i, lane, $"writes shared memory at {word * 4}, which {agent.NameOf(reader)} has read without a barrier between the two");
    }

    private static void CheckAtomics(Agent agent, Instruction* i, int lane, int word, uint[] clocks)
    {
        for (int other = 0; other < clocks.Length; other++)
        {
            bool isOrdered = clocks[other] == 0 || (other == agent.Number ? clocks[other] < agent.Clock : agent.Seen[other] >= clocks[other]);
            if (!isOrdered) throw agent.Fail(i, lane, $"touches shared memory at {word * 4}, to which {agent.NameOf(other)} has added without a barrier between the two");
        }
    }

    private string Where(uint address, int bytes) => address % bytes != 0 ? $"that is no multiple of {bytes}" : $"there are {Bytes} bytes from 0x{Base:x} on";
}
