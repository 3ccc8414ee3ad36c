using System.Globalization;

namespace FusedAttention.Cuda.Ptx;

/// <summary>An address: a register and a constant number of bytes, which instructions add for nothing.</summary>
internal abstract class Address(Value register, int offset)
{
    public Value Register { get; } = register;

    public int Offset { get; } = offset;

    /// <summary>What loads and stores say about where it is: <c>.global</c>.</summary>
    public abstract string Space { get; }

    /// <summary>The same further on.</summary>
    public abstract Address Behind(int bytes);

    public override string ToString() => Offset == 0 ? $"[{Register}]" : string.Create(CultureInfo.InvariantCulture, $"[{Register}+{Offset}]");
}

/// <summary>In device memory, 64 bits.</summary>
internal sealed class Global(I64 register, int offset = 0) : Address(register, offset)
{
    public override string Space => ".global";

    public override Address Behind(int bytes) => this + bytes;

    private I64 Base => (I64)Register;

    public static Global operator +(Global a, int bytes) => new(a.Base, a.Offset + bytes);

    public static Global operator +(Global a, I64 bytes) => new(a.Base + bytes, a.Offset);

    /// <summary>The address as a number, in a register.</summary>
    public I64 ToI64() => Base + (long)Offset;
}

/// <summary>Wherever it is: device memory, shared memory or a kernel's parameters, which the hardware tells from the number.</summary>
internal sealed class Anywhere(I64 register, int offset = 0) : Address(register, offset)
{
    public override string Space => string.Empty;

    public override Address Behind(int bytes) => this + bytes;

    public static Anywhere operator +(Anywhere a, int bytes) => new((I64)a.Register, a.Offset + bytes);

    public static Anywhere operator +(Anywhere a, I64 bytes) => new((I64)a.Register + bytes, a.Offset);
}

/// <summary>In the shared memory of a block of threads, 32 bits.</summary>
internal sealed class Shared(I32 register, int offset = 0) : Address(register, offset)
{
    public override string Space => ".shared";

    public override Address Behind(int bytes) => this + bytes;

    private I32 Base => (I32)Register;

    /// <summary>The address as a number, in a register.</summary>
    public I32 ToI32() => Base + Offset;

    public static Shared operator +(Shared a, int bytes) => new(a.Base, a.Offset + bytes);

    public static Shared operator +(Shared a, I32 bytes) => new(a.Base + bytes, a.Offset);
}
