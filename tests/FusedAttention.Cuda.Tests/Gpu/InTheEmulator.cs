#pragma warning disable MA0048 // What runs in the emulator: a list.
namespace FusedAttention.Cuda.Tests.Gpu;

/// <inheritdoc />
public sealed class EmulatedBitTests() : BitTests(TestDevice.Emulator);

/// <inheritdoc />
public sealed class EmulatedCacheTests() : CacheTests(TestDevice.Emulator);

/// <inheritdoc />
public sealed class EmulatedFarTests() : FarTests(TestDevice.Emulator);

/// <inheritdoc />
public sealed class EmulatedHiddenKeysTests() : HiddenKeysTests(TestDevice.Emulator);

/// <inheritdoc />
public sealed class EmulatedLengthTests() : LengthTests(TestDevice.Emulator);

/// <inheritdoc />
public sealed class EmulatedMergeTests() : MergeTests(TestDevice.Emulator);

/// <inheritdoc />
public sealed class EmulatedReferenceTests() : ReferenceTests(TestDevice.Emulator);

/// <inheritdoc />
public sealed class EmulatedStreamTests() : StreamTests(TestDevice.Emulator);

/// <inheritdoc />
public sealed class EmulatedSweepTests() : SweepTests(TestDevice.Emulator);
