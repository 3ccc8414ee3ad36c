using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>An attention kernel and what it is specialised for.</summary>
internal sealed record Specialisation(AttentionKernel Kernel, KernelTraits Traits)
{
    private static readonly (AttentionElementType Query, AttentionElementType KeyValue)[] Types =
    [
        (AttentionElementType.Float16, AttentionElementType.Float16),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16),
        (AttentionElementType.Float32, AttentionElementType.Float32),
        (AttentionElementType.Float32, AttentionElementType.Float16),
        (AttentionElementType.Float32, AttentionElementType.BFloat16),
    ];

    private static readonly (int Key, int Value)[] Dims = [(64, 64), (128, 128), (16, 16), (40, 40), (72, 72), (80, 80), (96, 96), (192, 128), (256, 256), (576, 512), (100, 33)];

    private static readonly int[] BlockSizes = [0, 1, 3, 16, 64];

    private static readonly AttentionKernel[] Kernels = [AttentionKernel.Prefill, AttentionKernel.Decode, AttentionKernel.Plain];

    private static readonly CallFeatures[] Flags = [CallFeatures.Mask, CallFeatures.Alibi, CallFeatures.SoftCap, CallFeatures.Sinks, CallFeatures.LogSumExp];

    private static readonly ScoreForm Score = ScoreFunction.Of(new LinearBias(new([1f, 2f]))).Graph.Form;

    private static readonly ScoreForm Keep = MaskFunction.Of(new DocumentMask([0, 1])).Graph.Form;

    /// <summary>Choices of each factor: kernel, types, dimensions, block size, none or a bias of each type, whether rows may be loaded as vectors, the flags, a score function and a mask function.</summary>
    private static readonly int[] Choices = [Kernels.Length, Types.Length, Dims.Length, BlockSizes.Length, 4, 2, 2, 2, 2, 2, 2, 2, 2];

    /// <summary>At most so many specialisations that have any two choices of two factors together, as far as a kernel takes them.</summary>
    public static List<Specialisation> Cover(int most, CudaDeviceDescription device)
    {
        var random = new Random(1);
        var missing = new HashSet<(int, int, int, int)>();
        for (int i = 0; i < 20_000; i++) missing.UnionWith(PairsOf(Random(random, device)));
        var cover = new List<Specialisation>();
        while (missing.Count > 0 && cover.Count < most)
        {
            // Around a pair that is missing; those of kernels first.
            (int a, int x, int b, int y) = missing.Min();
            int[] best = [];
            int gain = 0;
            for (int i = 0; i < 2000 || gain == 0; i++)
            {
                int[] choice = With(With([.. Choices.Select(count => random.Next(count))], a, x), b, y);
                int gained = IsTaken(choice, device) ? PairsOf(choice).Count(missing.Contains) : 0;
                if (gained > gain) (best, gain) = (choice, gained);
            }

            missing.ExceptWith(PairsOf(best));
            cover.Add(Of(best));
        }

        return cover;
    }

    /// <summary>Every kernel, pair of types and dimensions, without a feature, with each one alone, and with all of them.</summary>
    public static IEnumerable<Specialisation> All(CudaDeviceDescription device)
    {
        for (int kernel = 0; kernel < Kernels.Length; kernel++)
        for (int types = 0; types < Types.Length; types++)
        for (int dims = 0; dims < Dims.Length; dims++)
        for (int block = 0; block < BlockSizes.Length; block++)
        {
            int[] plain = new int[Choices.Length], whole = new int[Choices.Length];
            plain[0] = kernel;
            plain[1] = types;
            plain[2] = dims;
            plain[3] = block;
            plain[5] = 1;
            if (!IsTaken(plain, device)) continue;
            plain.CopyTo(whole, 0);
            whole[4] = 1 + ((dims + block) % 3);
            whole.AsSpan(6).Fill(1);
            yield return Of(plain);
            yield return Of(whole);
            if (block > 0) continue;
            for (int bias = 1; bias < 4; bias++) yield return Of(With(plain, 4, bias));
            for (int flag = 6; flag < Choices.Length; flag++) yield return Of(With(plain, flag, 1));
            if (Kernels[kernel] == AttentionKernel.Plain) yield return Of(With(plain, 5, 0));
        }
    }

    /// <summary>The kernel for a device, and how many blocks are to fit a multiprocessor.</summary>
    public (KernelFunction Function, int Blocks) On(CudaDeviceDescription device)
    {
        var tiles = new KernelTiles(TileTable.Prefill(Traits.KeyDim, Traits.ValueDim, device, Traits.Features, score: Traits.Score), null, default, TileTable.Decode(Traits.KeyDim, Traits.ValueDim, device, features: Traits.Features), default, 1, null, 1);
        return (KernelLibrary.Of(Kernel, Traits, tiles), Kernel switch { AttentionKernel.Prefill => tiles.Prefill!.Value.Blocks, AttentionKernel.Decode => tiles.Decode!.Value.Blocks, _ => 1 });
    }

    private static int[] With(int[] choice, int factor, int value)
    {
        int[] other = [.. choice];
        other[factor] = value;
        return other;
    }

    private static IEnumerable<(int, int, int, int)> PairsOf(int[] choice)
    {
        for (int a = 0; a < choice.Length; a++)
            for (int b = a + 1; b < choice.Length; b++) yield return (a, choice[a], b, choice[b]);
    }

    private static int[] Random(Random random, CudaDeviceDescription device)
    {
        while (true)
        {
            int[] choice = [.. Choices.Select(count => random.Next(count))];
            if (IsTaken(choice, device)) return choice;
        }
    }

    private static bool IsTaken(int[] choice, CudaDeviceDescription device)
    {
        (int key, int value) = Dims[choice[2]];
        return Kernels[choice[0]] switch
        {
            AttentionKernel.Prefill => choice[1] < 2 && choice[5] == 1 && TileTable.Prefill(key, value, device, CallFeatures.Mask | CallFeatures.Bias) is not null,
            AttentionKernel.Decode => choice[1] < 2 && choice[5] == 1 && TileTable.Decode(key, value, device) is not null,
            _ => choice[5] == 0 || (key % 8 == 0 && value % 8 == 0),
        };
    }

    private static Specialisation Of(int[] choice)
    {
        CallFeatures features = choice[5] == 1 ? CallFeatures.Aligned : CallFeatures.None;
        if (choice[4] > 0) features |= CallFeatures.Bias;
        for (int i = 0; i < Flags.Length; i++)
            if (choice[6 + i] == 1) features |= Flags[i];
        (bool hasScore, bool hasKeep) = (choice[6 + Flags.Length] == 1, choice[7 + Flags.Length] == 1);
        if (hasScore) features |= CallFeatures.ScoreFunction;
        if (hasKeep) features |= CallFeatures.MaskFunction;
        AttentionElementType bias = choice[4] switch { 2 => AttentionElementType.Float16, 3 => AttentionElementType.BFloat16, _ => AttentionElementType.Float32 };
        return new(Kernels[choice[0]], new(
            Types[choice[1]].Query, Types[choice[1]].KeyValue, Dims[choice[2]].Key, Dims[choice[2]].Value, features, BlockSizes[choice[3]], choice[4] > 0 ? bias : default)
        {
            Score = hasScore ? Score : null,
            Keep = hasKeep ? Keep : null,
        });
    }
}
