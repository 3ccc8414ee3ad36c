using System.Runtime.InteropServices;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// One reference to an Objective-C object, released exactly once: when it is disposed and no <see cref="Lease"/> is left, or when nobody holds it any more.
/// </summary>
internal sealed class NativeObject : SafeHandle
{
    private NativeObject(nint instance)
        : base(0, ownsHandle: true)
    {
        SetHandle(instance);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>Takes over the reference that a method of the families new, alloc, copy or Create returned.</summary>
    /// <exception cref="MetalException">It is nil.</exception>
    public static NativeObject Own(nint instance, string what) => new(NotNil(instance, what));

    /// <summary>Adds a reference to an object that somebody else owns.</summary>
    /// <exception cref="MetalException">It is nil.</exception>
    public static NativeObject Share(nint instance, string what) => new(Native.Retain(NotNil(instance, what)));

    /// <summary>An instance of a class, with its defaults.</summary>
    public static NativeObject Create(nint type, string what) => Own(Messages.Get(type, Selectors.New), what);

    /// <exception cref="MetalException">It is nil.</exception>
    public static nint NotNil(nint instance, string what) =>
        instance != 0 ? instance : throw new MetalException($"Metal returned nothing (nil) for {what}.");

    /// <summary>Keeps the object until the lease is disposed, whatever other threads do.</summary>
    /// <exception cref="ObjectDisposedException">It is disposed.</exception>
    public Lease Use() => new(this);

    /// <summary>Gives back a reference that no handle has.</summary>
    public static void Release(nint instance)
    {
        // The last release may run any amount of the system's code, on the finaliser's thread too.
        using AutoreleasePool pool = AutoreleasePool.Open();
        Native.Release(instance);
    }

    protected override bool ReleaseHandle()
    {
        Release(handle);
        return true;
    }

    public readonly ref struct Lease
    {
        private readonly NativeObject _owner;

        public Lease(NativeObject owner)
        {
            bool held = false;
            owner.DangerousAddRef(ref held);
            _owner = owner;
        }

        /// <summary>The object, for messages.</summary>
        public nint Id => _owner.handle;

        public void Dispose() => _owner.DangerousRelease();
    }
}
