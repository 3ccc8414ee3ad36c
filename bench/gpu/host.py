"""Microseconds of the processor for a call that is warm: queueing it, without waiting for the card."""
import time

import torch

import native
from contenders import ours, sdpa_peers
from suites import pages, tensors

CALLS = 100   # queued at once; the driver takes about 1,000 launches until it blocks
ROUNDS = 30


def host(library, recorder, only, peers):
    matched = 0
    for name, make in cases():
        if not only.search(name):
            continue
        matched += 1
        recorder.check_time(5)
        recorder.begin(name)
        output, sets, causal, options = make()
        for contender in (sdpa_peers(sets, causal, ("token-major",)) if peers and not options.get("kind") else []) + [ours(library, "default", output, sets, **({"causal": True} if causal else {}), **options)]:
            line = {"suite": "host", "row": name, "contender": contender.name, "variant": contender.variant, "status": "timed"}
            try:
                with contender.context():
                    times = rounds(contender, library)
                line.update(host_us=sorted(times)[len(times) // 2], host_best_us=min(times))
                recorder.say(f"{name:34s} {contender.label:28s} {line['host_us']:.2f} us, best {line['host_best_us']:.2f}")
            except Exception as failure:
                line.update(status="wrong" if contender.name == "ours" else "refused", note=str(failure)[:300])
                recorder.say(f"{name:34s} {contender.label:28s} {line['status']}: {line['note']}")
            recorder.emit(**line)
            if hasattr(contender, "close"):
                contender.close()
    return matched


def rounds(contender, library):
    """Microseconds a call of each round; ours from native code, as a program in .NET makes it, peers from Python, as theirs do."""
    run, _ = contender.make(contender)
    calls = getattr(contender, "calls", None)
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        if calls:
            seconds = native.run_many(library, calls, CALLS)
        else:
            start = time.perf_counter()
            for _ in range(CALLS):
                run()
            seconds = time.perf_counter() - start
        times.append(seconds * 1e6 / CALLS)
    torch.cuda.synchronize()
    return times[2:]


def cases():
    def dense(batch, queries, keys, heads, kv_heads, dim, causal):
        def make():
            query, key, value = tensors(batch, queries, keys, heads, kv_heads, dim, dim, torch.float16)
            return torch.empty_like(query), [(query, key, value)], causal, {}
        return make

    def paged(batch, keys, block, heads=32, kv_heads=8, dim=128):
        def make():
            caches = [[torch.randn(keys, kv_heads, dim, device="cuda", dtype=torch.float16) for _ in range(batch)] for _ in range(2)]
            key, value, tables = pages(*caches, block)
            query = torch.randn(batch, heads, dim, device="cuda", dtype=torch.float16)
            options = dict(kind=native.PAGED, cumulative_query_lengths=list(range(batch + 1)), key_lengths=[keys] * batch, block_tables=tables)
            return torch.empty_like(query), [(query, key, value)], False, options
        return make

    yield "host decode B1 32/8 x 128", dense(1, 1, 128, 32, 8, 128, False)
    yield "host decode B8 32/8 x 512", dense(8, 1, 512, 32, 8, 128, False)
    yield "host prefill D128 causal 128", dense(1, 128, 128, 16, 16, 128, True)
    yield "host decode B8 x 1k paged-16", paged(8, 1024, 16)
    yield "host decode B64 x 2k paged-16", paged(64, 2048, 16)
