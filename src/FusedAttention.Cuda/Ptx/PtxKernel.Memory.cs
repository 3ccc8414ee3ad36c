using System.Globalization;

namespace FusedAttention.Cuda.Ptx;

/// <content>Loads, stores, copies.</content>
internal sealed partial class PtxKernel
{
    private I32? _shared;

    /// <summary>Where the block's dynamic shared memory begins: at a multiple of 1,024.</summary>
    public Shared SharedMemory
    {
        get
        {
            if (_shared is null)
            {
                _shared = I32.In(this).As("shared_base");
                EmitText("mov.b32", _shared, SharedName);
            }

            return new(_shared);
        }
    }

    /// <summary>A field of the kernel's parameter.</summary>
    public T Parameter<T>(int offset)
        where T : Value, IValue<T>
    {
        T result = T.In(this);
        EmitText($"ld.param.{T.Suffix}", result, string.Create(CultureInfo.InvariantCulture, $"[{ParameterName}+{offset}]"));
        return result;
    }

    /// <summary>The parameter's own address, as device code may follow it.</summary>
    public I64 ParameterAddress()
    {
        I64 address = I64.In(this), anywhere = I64.In(this);
        EmitText("mov.b64", address, ParameterName);
        Emit("cvta.param.u64", anywhere, address);
        return anywhere;
    }

    public T Load<T>(Address from, string cache = "")
        where T : Value, IValue<T>
    {
        T result = T.In(this);
        EmitText($"ld{from.Space}{cache}.{T.Suffix}", result, from);
        return result;
    }

    /// <summary>Loads into a register that is there.</summary>
    public void Load<T>(T to, Address from, string cache = "")
        where T : Value, IValue<T> => EmitText($"ld{from.Space}{cache}.{T.Suffix}", to, from);

    /// <summary>2 or 4 neighbours; the address is a multiple of all their bytes.</summary>
    public T[] LoadVector<T>(Address from, int count, string cache = "")
        where T : Value, IValue<T>
    {
        var results = new T[count];
        for (int i = 0; i < count; i++) results[i] = T.In(this);
        LoadVector(results, from, cache);
        return results;
    }

    /// <summary>Loads neighbours into registers that are there.</summary>
    public void LoadVector<T>(T[] to, Address from, string cache = "")
        where T : Value, IValue<T> => EmitText($"ld{from.Space}{cache}.v{to.Length}.{T.Suffix}", new Vector(to), from);

    /// <summary>A byte, widened with zeros.</summary>
    public I32 LoadByte(Address from)
    {
        I32 result = I32.In(this);
        LoadByte(result, from);
        return result;
    }

    /// <summary>A byte, into a register that is there.</summary>
    public void LoadByte(I32 to, Address from) => EmitText($"ld{from.Space}.u8", to, from);

    /// <summary>16 bits, widened with zeros, into a register that is there.</summary>
    public void LoadHalf(I32 to, Address from) => EmitText($"ld{from.Space}.u16", to, from);

    public void Store<T>(Address to, T value)
        where T : Value, IValue<T> => EmitText($"st{to.Space}.{T.Suffix}", to, value);

    /// <summary>The low byte.</summary>
    public void StoreByte(Address to, I32 value) => EmitText($"st{to.Space}.u8", to, value);

    /// <summary>2 or 4 neighbours; the address is a multiple of all their bytes.</summary>
    public void StoreVector<T>(Address to, params T[] values)
        where T : Value, IValue<T> => EmitText($"st{to.Space}.v{values.Length}.{T.Suffix}", to, new Vector(values));

    /// <summary>Loads an element and widens it.</summary>
    public F32 LoadElement(ElementFormat format, Address from, string cache = "") => format switch
    {
        ElementFormat.Float32 => Load<F32>(from, cache),
        ElementFormat.Int8 or ElementFormat.Float8E4M3 => EightBits.Widen(format, LoadByte(from)),
        _ => Load<B16>(from, cache).Widen(format),
    };

    /// <summary>Rounds to the format and stores.</summary>
    public void StoreElement(ElementFormat format, Address to, F32 value)
    {
        if (format == ElementFormat.Float32) Store(to, value);
        else Store(to, B16.Of(format, value));
    }

    /// <summary>16 bytes from device to shared memory, in the background; both addresses are multiples of 16.</summary>
    /// <param name="to">Where to.</param>
    /// <param name="from">Where from; not read where nothing is taken.</param>
    /// <param name="taken">How many of the bytes are taken: the rest is zero. Null: all.</param>
    /// <param name="policy">What the second-level cache does with them (<see cref="EvictFirst"/>); null: as with anything.</param>
    public void CopyAsync(Shared to, Global from, I32? taken = null, I64? policy = null)
    {
        string opcode = $"cp.async.cg.shared.global{(policy is null ? string.Empty : ".L2::cache_hint")}.L2::128B";
        List<object> operands = [to, from, "16"];
        if (taken is not null) operands.Add(taken);
        if (policy is not null) operands.Add(policy);
        EmitText(opcode, [.. operands]);
    }

    /// <summary>4, 8 or 16 bytes from device to shared memory, in the background, by way of the first-level cache: where neighbours in memory are copied by the same thread. Both addresses are multiples of that.</summary>
    /// <param name="to">Where to.</param>
    /// <param name="from">Where from; not read where nothing is taken.</param>
    /// <param name="bytes">How many.</param>
    /// <param name="taken">How many of them are taken: the rest is zero.</param>
    public void CopyCachedAsync(Shared to, Global from, int bytes, I32 taken) => EmitText("cp.async.ca.shared.global.L2::128B", to, from, (I32)bytes, taken);

    /// <summary>A policy for what is read once: it makes room before anything else does.</summary>
    public I64 EvictFirst()
    {
        I64 policy = I64.In(this).As("evict_first");
        EmitText("createpolicy.fractional.L2::evict_first.b64", policy, "1.0");
        return policy;
    }

    /// <summary>The copies since the last commit are one group.</summary>
    public void CommitCopies() => Emit("cp.async.commit_group");

    /// <summary>Waits until at most so many of this thread's latest groups are under way.</summary>
    public void WaitForCopies(int underWay) => Emit("cp.async.wait_group", (I32)underWay);

    /// <summary>Adds, and returns what was there: a number that no other thread gets, and nothing else.</summary>
    public I32 AtomicAdd(Address to, I32 value)
    {
        I32 result = I32.In(this);
        EmitText($"atom{to.Space}.add.u32", result, to, value);
        return result;
    }

    /// <summary>
    /// Adds, and returns what was there. Whoever adds later sees what this thread, and those whose writes it has seen, wrote before; this thread sees what was written before earlier additions.
    /// </summary>
    public I32 AtomicAddFenced(Global to, I32 value)
    {
        I32 result = I32.In(this);
        EmitText("atom.acq_rel.gpu.global.add.u32", result, to, value);
        return result;
    }
}
