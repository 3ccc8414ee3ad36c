#pragma warning disable MA0048 // What runs on the GPU of this machine: a list.
namespace FusedAttention.Cuda.Tests.Gpu;

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuBiasTests() : BiasTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuBitTests() : BitTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuCacheTests() : CacheTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuEightBitCacheTests() : EightBitCacheTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuEightBitTests() : EightBitTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuFarTests() : FarTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuFeaturePairTests() : FeaturePairTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuFeatureTripleTests() : FeatureTripleTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuFunctionTests() : FunctionTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuGrowthTests() : GrowthTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuHiddenKeysTests() : HiddenKeysTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuLengthTests() : LengthTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuMaskTests() : MaskTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuMergeTests() : MergeTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuReferenceTests() : ReferenceTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuSoftCapTests() : SoftCapTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuStreamTests() : StreamTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuSweepTests() : SweepTests(TestDevice.Gpu);

/// <inheritdoc />
[NeedsGpu]
[Xunit.Collection(Fakes.FakeDriver.Collection)]
public sealed class GpuTileNumberTests() : TileNumberTests(TestDevice.Gpu);
