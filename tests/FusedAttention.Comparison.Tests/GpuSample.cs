using FusedAttention.Comparison.Gpu;

namespace FusedAttention.Comparison.Tests;

/// <summary>Lines as bench/gpu/compare.py writes them, with every status and suite; and those of a later run that measures a part again.</summary>
internal static class GpuSample
{
    public const string First = """
        {"suite": "machine", "device": "NVIDIA H100 80GB HBM3 (compute capability 9.0, device 0)", "gpu": "NVIDIA H100 80GB HBM3", "torch": "2.11.0+cu130", "cuda": "13.0", "cudnn": 91900, "started": "2026-11-27 04:51:43", "multiprocessors": 132, "driver": "580.159.04", "commit": "b16cd88"}
        {"suite": "prefill", "row": "prefill fp16 D64 full 8k", "type": "fp16", "dim": 64, "value_dim": 64, "heads": 32, "kv_heads": 32, "batch": 2, "queries": 8192, "keys": 8192, "mask": "full", "contender": "FlashAttention 2", "variant": "token-major", "status": "timed", "error": 0.00029545767696084285, "first_seconds": 0.0044, "burst_us": 3600.0, "burst_median_us": 3593.7, "launches": 14, "host_us": 65.1, "burst_tflops": 305.2}
        {"suite": "prefill", "row": "prefill fp16 D64 full 8k", "type": "fp16", "dim": 64, "value_dim": 64, "heads": 32, "kv_heads": 32, "batch": 2, "queries": 8192, "keys": 8192, "mask": "full", "contender": "FlashAttention 2", "variant": "head-major", "status": "timed", "error": 0.0003, "burst_us": 3500.0, "launches": 14, "burst_tflops": 314.1, "sustained_us": 3400.0, "sustained_tflops": 323.0}
        {"suite": "prefill", "row": "prefill fp16 D64 full 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "full", "contender": "cuDNN", "variant": "head-major", "status": "timed", "error": 0.0003, "burst_us": 2100.0, "launches": 14, "burst_tflops": 523.6, "sustained_us": 2500.0, "sustained_tflops": 439.8}
        {"suite": "prefill", "row": "prefill fp16 D64 full 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "full", "contender": "ours", "variant": "mma", "status": "timed", "error": 0.0003, "burst_us": 3300.0, "launches": 14, "burst_tflops": 333.2, "sustained_us": 3400.0, "sustained_tflops": 323.4, "load_seconds": 0.4}
        {"suite": "prefill", "row": "prefill fp16 D64 full 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "full", "contender": "ours", "variant": "wgmma", "status": "timed", "error": 0.0004, "burst_us": 1750.0, "launches": 14, "burst_tflops": 628.3, "sustained_us": 2000.0, "sustained_tflops": 549.8}
        {"suite": "prefill", "row": "prefill fp16 D64 full 512", "type": "fp16", "dim": 64, "keys": 512, "mask": "full", "contender": "FlashAttention 2", "variant": "token-major", "status": "refused", "note": "no | kernel"}
        {"suite": "prefill", "row": "prefill fp16 D64 full 512", "type": "fp16", "dim": 64, "keys": 512, "mask": "full", "contender": "cuDNN", "variant": "token-major", "status": "timed", "error": 0.0003, "burst_us": 200.0, "launches": 14, "burst_tflops": 200.0}
        {"suite": "prefill", "row": "prefill fp16 D64 full 512", "type": "fp16", "dim": 64, "keys": 512, "mask": "full", "contender": "ours", "variant": "mma", "status": "timed", "error": 0.0003, "burst_us": 250.0, "launches": 14, "burst_tflops": 160.0}
        {"suite": "prefill", "row": "prefill fp16 D64 full 512", "type": "fp16", "dim": 64, "keys": 512, "mask": "full", "contender": "ours", "variant": "wgmma", "status": "wrong", "note": "relative error inf", "error": Infinity}
        {"suite": "prefill", "row": "prefill fp16 D64 full 1k", "type": "fp16", "dim": 64, "keys": 1024, "mask": "full", "contender": "cuDNN", "variant": "token-major", "status": "timed", "error": 0.0003, "burst_us": 300.0, "launches": 14, "burst_tflops": 400.0}
        {"suite": "prefill", "row": "prefill fp16 D64 full 1k", "type": "fp16", "dim": 64, "keys": 1024, "mask": "full", "contender": "ours", "variant": "wgmma", "status": "timed", "error": 0.0003, "burst_us": 240.0, "launches": 14, "burst_tflops": 500.0}
        {"suite": "decode", "row": "decode fp16 D128 B8 32/8 x 8k", "type": "fp16", "dim": 128, "keys": 8192, "sets": 2, "contender": "cuDNN", "variant": "folded", "status": "timed", "error": 0.0003, "burst_us": 96.0, "launches": 14, "burst_tbps": 2.8, "sustained_us": 95.0, "sustained_tbps": 2.83}
        {"suite": "decode", "row": "decode fp16 D128 B8 32/8 x 8k", "type": "fp16", "dim": 128, "keys": 8192, "sets": 2, "contender": "ours", "variant": "default", "status": "timed", "error": 0.0003, "burst_us": 108.0, "launches": 14, "burst_tbps": 2.49, "sustained_us": 120.0, "sustained_tbps": 2.24}
        {"suite": "decode", "row": "decode fp16 D128 B8 32/8 x 8k", "type": "fp16", "dim": 128, "keys": 8192, "sets": 2, "contender": "ours", "variant": "head-major", "status": "timed", "error": 0.0003, "burst_us": 100.0, "launches": 14, "burst_tbps": 2.68, "sustained_us": 100.0, "sustained_tbps": 2.68}
        {"suite": "decode", "row": "decode fp16 D128 B8 32/8 x 8k paged-16", "type": "fp16", "dim": 128, "keys": 8192, "sets": 2, "block": 16, "contender": "ours", "variant": "default", "status": "timed", "error": 0.0003, "burst_us": 110.0, "launches": 14, "burst_tbps": 2.44}
        {"suite": "features", "row": "features fp16 D64 alibi 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "alibi", "contender": "ours plain", "variant": "mma", "status": "timed", "error": 0.0002, "baseline": true, "burst_us": 1800.0, "launches": 14}
        {"suite": "features", "row": "features fp16 D64 alibi 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "alibi", "contender": "ours", "variant": "mma", "status": "timed", "error": 0.0002, "burst_us": 1890.0, "launches": 14}
        {"suite": "features", "row": "features fp16 D64 alibi 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "alibi", "contender": "ours", "variant": "wgmma", "status": "skipped", "note": "mma.sync instead of wgmma"}
        {"suite": "features", "row": "features fp16 D64 packed-mixed 16k", "type": "fp16", "dim": 64, "keys": 16384, "mask": "packed-mixed", "contender": "ours", "variant": "mma", "status": "timed", "error": 0.0002, "burst_us": 1800.0, "launches": 14, "burst_tflops": 292.49996}
        {"suite": "functions", "row": "functions fp16 D64 alibi 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "alibi", "contender": "ours plain", "variant": "mma", "status": "timed", "error": 0.0002, "baseline": true, "burst_us": 1800.0, "launches": 14, "sustained_us": 2000.0}
        {"suite": "functions", "row": "functions fp16 D64 alibi 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "alibi", "contender": "ours built-in", "variant": "mma", "status": "timed", "error": 0.0002, "burst_us": 1890.0, "launches": 14, "sustained_us": 2100.0}
        {"suite": "functions", "row": "functions fp16 D64 alibi 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "alibi", "contender": "FlexAttention", "variant": "head-major", "status": "timed", "error": 0.0003, "first_seconds": 3.5, "burst_us": 2880.0, "launches": 14, "sustained_us": 3000.0}
        {"suite": "functions", "row": "functions fp16 D64 alibi 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "alibi", "contender": "ours", "variant": "mma", "status": "timed", "error": 0.0002, "burst_us": 1920.0, "launches": 14, "sustained_us": 2200.0}
        {"suite": "functions", "row": "functions fp16 D64 alibi 8k", "type": "fp16", "dim": 64, "keys": 8192, "mask": "alibi", "contender": "ours", "variant": "wgmma", "status": "wrong", "note": "relative error 1.0e+00", "error": 1.0}
        {"suite": "functions", "row": "functions fp16 D128 t5 decode B8 32/8 x 8k", "type": "fp16", "dim": 128, "keys": 8192, "mask": "t5", "contender": "ours plain", "variant": "default", "status": "timed", "error": 0.0003, "baseline": true, "burst_us": 100.0, "launches": 14}
        {"suite": "functions", "row": "functions fp16 D128 t5 decode B8 32/8 x 8k", "type": "fp16", "dim": 128, "keys": 8192, "mask": "t5", "contender": "FlexAttention", "variant": "head-major", "status": "refused", "note": "none"}
        {"suite": "functions", "row": "functions fp16 D128 t5 decode B8 32/8 x 8k", "type": "fp16", "dim": 128, "keys": 8192, "mask": "t5", "contender": "ours", "variant": "default", "status": "timed", "error": 0.0003, "burst_us": 107.0, "launches": 14}
        {"suite": "first-calls", "row": "first call fp16 D128 t5 8k", "contender": "ours", "variant": "mma", "status": "timed", "first_seconds": 0.5, "kernel": "mma", "load_seconds": 0.4}
        {"suite": "first-calls", "row": "first call fp16 D128 t5 8k", "contender": "ours", "variant": "wgmma", "status": "timed", "first_seconds": 0.4, "kernel": "wgmma", "load_seconds": 0.3}
        {"suite": "first-calls", "row": "first call fp16 D128 t5 8k", "contender": "FlexAttention", "variant": "head-major", "status": "timed", "first_seconds": 2.25}
        {"suite": "first", "row": "prefill fp16 D64 full", "contender": "ours", "variant": "mma", "status": "timed", "kernel": "mma", "load_seconds": 0.4201}
        {"suite": "first", "row": "decode fp16 D64", "contender": "ours", "variant": "decode", "status": "timed", "kernel": "decode", "load_seconds": 0.117}
        {"suite": "host", "row": "host decode B1 32/8 x 128", "contender": "cuDNN", "variant": "token-major", "status": "timed", "host_us": 23.178, "host_best_us": 21.808}
        {"suite": "host", "row": "host decode B1 32/8 x 128", "contender": "ours", "variant": "default", "status": "timed", "host_us": 10.287, "host_best_us": 9.558}
        {"suite": "failure", "row": "prefill fp16 D64 full 512: ours wgmma, sustained", "contender": "", "variant": "", "status": "wrong", "note": "hangs"}
        """;

    public const string Later = """
        {"suite": "machine", "device": "NVIDIA H100 80GB HBM3 (compute capability 9.0, device 0)", "gpu": "NVIDIA H100 80GB HBM3", "torch": "2.11.0+cu130", "cuda": "13.0", "cudnn": 91900, "started": "2026-11-28 10:00:00", "multiprocessors": 132, "driver": "580.159.04", "commit": "c0ffee1"}
        {"suite": "prefill", "row": "prefill fp16 D64 full 512", "type": "fp16", "dim": 64, "keys": 512, "mask": "full", "contender": "ours", "variant": "wgmma", "status": "timed", "error": 0.0003, "burst_us": 160.0, "launches": 14, "burst_tflops": 250.0}
        """;

    public static GpuMeasurements Merge(params IEnumerable<string> texts) => GpuMeasurements.Merge(texts.Select((text, i) => ($"file {i + 1}", (IEnumerable<string>)text.Split('\n'))));
}
