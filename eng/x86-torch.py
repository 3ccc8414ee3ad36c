"""Times PyTorch's attention on the shapes of MachineCodeTimes: bfloat16, [token][head][dim] in memory, medians."""
import sys
import time

import torch

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
heads = 8
everyone = torch.get_num_threads()
for tokens in (512, 2048, 8192):
    for dim in (128, 64):
        for causal in (False, True):
            for threads in (-1, 1):
                if threads == 1 and tokens > 2048:
                    continue
                torch.set_num_threads(everyone if threads < 0 else threads)
                generator = torch.Generator().manual_seed(1)
                query, key, value = (
                    (torch.rand(1, tokens, heads, dim, generator=generator) * 2 - 1).to(torch.bfloat16).transpose(1, 2) for _ in range(3))
                call = lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
                with torch.inference_mode():
                    call()
                    times, start = [], time.perf_counter()
                    while time.perf_counter() - start < seconds or len(times) < 3:
                        begin = time.perf_counter()
                        call()
                        times.append(time.perf_counter() - begin)
                median = sorted(times)[len(times) // 2]
                operations = 4.0 * tokens * tokens * heads * dim / (2 if causal else 1)
                print(f"times prefill bf16 {tokens} x {heads} x {dim} {'causal' if causal else 'full'} threads {threads}: "
                      f"torch {torch.__version__} {median * 1e3:.3f} ms {operations / median / 1e12:.3f} TFLOP/s", flush=True)
