using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Testing;

/// <summary>Small files made for a test: random tensors, and cases of the reference form with the oracle's results as expected ones.</summary>
internal static class GeneratedCases
{
    public static LoadedTensor Random<T>(string name, int seed, params ReadOnlySpan<long> shape)
        where T : unmanaged
    {
        var random = new Random(seed);
        float[] numbers = new float[(int)LoadedTensor.TryCountElements(shape)!.Value];
        foreach (ref float number in numbers.AsSpan()) number = (random.NextSingle() * 4) - 2;
        var single = new LoadedTensor(name, TensorElementType.Float32, [.. shape], System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(numbers).ToArray());
        return single.ConvertTo(LoadedTensor.Create<T>("", [], 0).ElementType);
    }

    /// <summary>A dense case: causal, with ALiBi and sinks, key lengths and NaN behind them.</summary>
    public static Dictionary<string, LoadedTensor> Dense()
    {
        LoadedTensor key = Random<float>("k", 2, 2, 9, 2, 5);
        float[] poisoned = key.Elements<float>().ToArray();
        // Keys 7 and 8 of batch row 1 are beyond its length.
        poisoned.AsSpan((9 + 7) * 2 * 5).Fill(float.NaN);
        return Named(
            Random<float>("q", 1, 2, 4, 6, 5),
            LoadedTensor.Create<float>("k", poisoned, 2, 9, 2, 5),
            Random<float>("v", 3, 2, 9, 2, 3),
            LoadedTensor.Create<int>("seqlens_kv", [9, 7], 2),
            LoadedTensor.Create<float>("alibi_slopes", [.. AlibiSlopes.ForHeads(6)], 6),
            LoadedTensor.Create<float>("sink", [0, 1, -1, 2, 0.5f, 0], 6));
    }

    /// <summary>Three packed sequences, one of them empty, in half precision.</summary>
    public static Dictionary<string, LoadedTensor> Packed() => Named(
        Random<Half>("q", 4, 7, 2, 8),
        Random<Half>("k", 5, 11, 1, 8),
        Random<Half>("v", 6, 11, 1, 8),
        LoadedTensor.Create<int>("cu_seqlens_q", [0, 3, 3, 7], 4),
        LoadedTensor.Create<int>("cu_seqlens_kv", [0, 4, 6, 11], 4));

    /// <summary>Two sequences in a paged cache of bfloat16 with blocks of 4.</summary>
    public static Dictionary<string, LoadedTensor> Paged() => Named(
        Random<BFloat16>("q", 7, 3, 2, 8),
        Random<BFloat16>("k_cache", 8, 6, 4, 2, 8),
        Random<BFloat16>("v_cache", 9, 6, 4, 2, 8),
        LoadedTensor.Create<int>("cu_seqlens_q", [0, 1, 3], 3),
        LoadedTensor.Create<int>("context_lens", [5, 9], 2),
        LoadedTensor.Create<int>("block_tables", [4, 1, -1, 0, 5, 2], 2, 3));

    /// <summary>Metadata of the reference form.</summary>
    public static Dictionary<string, string> Metadata(string layout, string dtype, params ReadOnlySpan<(string Name, string Value)> more)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["group"] = layout,
            ["layout"] = layout,
            ["dtype"] = dtype,
            ["scale"] = "0.375",
            ["causal"] = "1",
            ["align"] = "bottom_right",
            ["window_left"] = "-1",
            ["window_right"] = "-1",
            ["softcap"] = "0.0",
            ["emulated_max_abs_err"] = dtype switch { "fp32" => "1e-6", "fp16" => "1e-3", _ => "8e-3" },
        };
        foreach ((string name, string value) in more) metadata[name] = value;
        return metadata;
    }

    /// <summary>Adds what the oracle finds as expected results, and writes the file.</summary>
    public static void Write(string path, Dictionary<string, LoadedTensor> tensors, Dictionary<string, string> metadata)
    {
        var reference = new ReferenceCase(Path.GetFileNameWithoutExtension(path), tensors.Values, metadata);
        CallInputs call = ReferenceRunner.Call(reference, RunOptions.Default);
        OracleResult oracle = CallOracle.Compute(call, 1, null, CancellationToken.None);
        Add(LoadedTensor.Create<double>("o", oracle.Output, call.OutputShape).ConvertTo(TensorElementType.Float32));
        Add(LoadedTensor.Create<double>("lse", oracle.LogSumExp, call.LogSumExpShape));
        if (tensors.ContainsKey("sink")) Add(LoadedTensor.Create<double>("lse_excl_sink", oracle.LogSumExpOfKeys, call.LogSumExpShape));
        SafeTensorsWriter.Write(path, [.. tensors.Values], metadata);

        void Add(LoadedTensor tensor) => tensors[tensor.Name] = tensor;
    }

    private static Dictionary<string, LoadedTensor> Named(params ReadOnlySpan<LoadedTensor> tensors)
    {
        var named = new Dictionary<string, LoadedTensor>(StringComparer.Ordinal);
        foreach (LoadedTensor tensor in tensors) named.Add(tensor.Name, tensor);
        return named;
    }
}
