"""How long the first call of a kernel waits for it: writing its text and having the driver assemble it, in a process of its own whose driver keeps nothing. Needs no PyTorch; prints JSON lines."""
import json
import os
import sys

HEADS = {64: 32, 96: 16, 128: 16, 256: 8}


class Named:
    """A tensor that is only spoken of: loading a kernel reads none."""

    def __init__(self, *shape, dtype="float16"):
        self.shape, self.dtype = shape, dtype

    def data_ptr(self):
        return 1 << 20

    def stride(self):
        strides = [1]
        for length in self.shape[:0:-1]:
            strides.insert(0, strides[0] * length)
        return tuple(strides)


def cases():
    """Name, form and call; features at D64 and D128, the rest plain."""
    import native
    for dim, heads in HEADS.items():
        dense = [Named(2, 8192, heads, dim) for _ in range(4)]
        for form in ("mma", "wgmma"):
            features = [("full", {}), ("causal", {"causal": True})]
            if dim in (64, 128):
                features += [
                    ("alibi", {"causal": True, "alibi_slopes": [0.5] * heads}), ("soft-cap", {"causal": True, "soft_cap": 30.0}), ("sinks", {"causal": True, "sink_logits": [0.0] * heads})]
                if form == "mma":
                    features += [("mask", {"causal": True, "mask": Named(1, 1, 8192, 8192, dtype="bool")}), ("bias", {"causal": True, "bias": Named(1, 1, 8192, 8192)})]
            for name, options in features:
                yield f"prefill fp16 D{dim} {name}", form, native.describe_call(*dense, form=form, **options)
    for dim in (64, 128, 256):
        cache = [Named(8, 8192, 8, dim) for _ in range(2)]
        rows = [Named(8, 1, 32, dim) for _ in range(2)]
        yield f"decode fp16 D{dim}", "decode", native.describe_call(rows[0], *cache, rows[1])
    blocks, rows = [Named(4096, 16, 8, 128) for _ in range(2)], [Named(8, 32, 128) for _ in range(2)]
    yield "decode fp16 D128 paged 16", "decode", native.describe_call(
        rows[0], *blocks, rows[1], kind=native.PAGED, cumulative_query_lengths=list(range(9)), key_lengths=[8192] * 8, block_tables=[list(range(512))] * 8)
    floats = [Named(1, 1024, 8, 128, dtype="float32") for _ in range(4)]
    yield "plain fp32 D128", "plain", native.describe_call(*floats)


def main():
    os.environ["CUDA_CACHE_DISABLE"] = "1"
    import native
    library = native.Library()
    library.open()
    for name, form, description in cases():
        try:
            call = library.create(description)
            line = {"status": "timed", "kernel": native.kernel_of(call.explain()), "load_seconds": round(call.load(), 4)}
        except native.FusedAttentionError as failure:
            line = {"status": "wrong", "note": str(failure)[:500]}
        print(json.dumps({"suite": "first", "row": name, "contender": "ours", "variant": form, **line}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
