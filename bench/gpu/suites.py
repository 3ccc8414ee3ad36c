"""The rows of each suite: tensors, the law, and who computes them."""
import random

import torch

import functions
import native
from contenders import flex, ours, sdpa_peers
from functions import slopes
from measure import Sequence, allowed_pairs, measure

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
CODES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
HEADS = {64: 32, 96: 16, 128: 16, 192: 16, 256: 8}
TOKENS = 16384       # batch x length of a prefill
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
ROTATED = 256 << 20  # bytes of keys and values between two uses of the same: no L2 has them any more
CORE = r"prefill fp16 D(64|128|256) (full|causal) (1k|8k|16k)$"


def size_of(tokens):
    return f"{tokens >> 10}k" if tokens % 1024 == 0 else str(tokens)


def tensors(batch, queries, keys, heads, kv_heads, dim, value_dim, dtype):
    def make(tokens, count, length):
        return torch.randn(batch, tokens, count, length, device="cuda", dtype=dtype)
    return make(queries, heads, dim), make(keys, kv_heads, dim), make(keys, kv_heads, value_dim)


def codes(name, batch, tokens, heads, dim):
    """Codes of 8 bits; made by parts, since fp8 goes by way of wider numbers."""
    result = torch.empty(batch, tokens, heads, dim, device="cuda", dtype=CODES[name])
    for part in result:
        part.copy_(torch.randint(-127, 128, part.shape, device="cuda", dtype=torch.int8) if name == "int8" else torch.randn(part.shape, device="cuda", dtype=torch.float16).to(part.dtype))
    return result


def dense_sequences(query, key, value, mask=None, bias=None):
    """The first and the last of a batch."""
    def of(plane, index):
        return None if plane is None else plane[index if plane.shape[0] > 1 else 0]
    return [Sequence(query[b], key[b], value[b], lambda output, b=b: output[b], of(mask, b), of(bias, b), b) for b in sorted({0, query.shape[0] - 1})]


def operations_of(heads, dim, value_dim, lengths, law):
    return sum(2.0 * heads * (dim + value_dim) * allowed_pairs(queries, keys, law) for queries, keys in lengths)


class Suites:
    def __init__(self, library, recorder, wanted, flex_wanted, launches, peers=True, forms=("mma", "wgmma"), others=None):
        self.library, self.recorder, self.wanted, self.flex_wanted, self.launches, self.peers, self.forms, self.others = library, recorder, wanted, flex_wanted, launches, peers, forms, others or {}
        self.matched = 0

    def is_wanted(self, name):
        if not self.wanted(name):
            return False
        self.matched += 1
        self.recorder.check_time(5)
        return True

    def run(self, row, contenders, sequences, law, **sizes):
        measure(self.recorder, row, contenders, sequences, law, launches=self.launches, **sizes)
        torch.cuda.empty_cache()

    def ours(self, output, sets, forms=None, name="ours", **options):
        """Each form, and beside it the same of other builds."""
        builds = [(self.library, None)] + [(library, build) for build, library in self.others.items()]
        return [ours(library, form, output, sets, name=name, build=build, **options) for form in forms or self.forms for library, build in builds]

    # -- prefill

    def prefill(self):
        rows = [(name, dim, dim, HEADS[dim], HEADS[dim], mask, tokens)
                for name in TYPES for dim in (64, 96, 128, 256) for mask in ("full", "causal") for tokens in LENGTHS]
        rows += [("fp16", 192, 128, 16, 16, mask, tokens) for mask in ("full", "causal") for tokens in (1024, 8192)]
        rows += [(name, 128, 128, 32, 8, mask, tokens) for name in TYPES for mask in ("full", "causal") for tokens in (1024, 8192)]
        rows += [("fp16", dim, dim, HEADS[dim], HEADS[dim], mask, tokens) for dim in (64, 128) for mask, tokens in (("window-1k", 8192), ("window-4k", 8192), ("alibi", 4096))]
        for row in rows:
            self.prefill_row(*row)

    def prefill_row(self, type_name, dim, value_dim, heads, kv_heads, mask, tokens):
        name = f"prefill {type_name} D{dim}{f'/{value_dim}' if value_dim != dim else ''}{f' {heads}/{kv_heads}' if heads != kv_heads else ''} {mask} {size_of(tokens)}"
        if not self.is_wanted(name):
            return
        law = {"causal": mask != "full"}
        if mask.startswith("window"):
            law["window_left"] = (int(mask[7:-1]) << 10) - 1
        if mask == "alibi":
            law["alibi_slopes"] = slopes(heads)
        batch = max(1, TOKENS // tokens)
        query, key, value = tensors(batch, tokens, tokens, heads, kv_heads, dim, value_dim, TYPES[type_name])
        output = torch.empty(batch, tokens, heads, value_dim, device="cuda", dtype=query.dtype)
        sets = [(query, key, value)]
        contenders = sdpa_peers(sets, law["causal"]) if self.peers and mask in ("full", "causal") else []
        if self.peers and self.flex_wanted(name):
            contenders.append(flex(sets, law))
        contenders += self.ours(output, sets, **law)
        row = dict(suite="prefill", row=name, type=type_name, dim=dim, value_dim=value_dim, heads=heads, kv_heads=kv_heads, batch=batch, queries=tokens, keys=tokens, mask=mask)
        self.run(row, contenders, dense_sequences(query, key, value), law, operations=operations_of(heads, dim, value_dim, [(tokens, tokens)] * batch, law))

    # -- what features cost

    def features(self):
        for dim in (64, 128):
            for feature in ("alibi", "window-4k", "window-1k", "sinks", "soft-cap", "mask-random", "mask-half", "bias-keys", "bias-full"):
                self.feature_row(dim, feature)
            for block in (1, 16, 64, 256):
                self.paged_prefill(dim, block)
            self.packed_prefill(dim)

    def feature_row(self, dim, feature, tokens=8192):
        """A feature beside plain causal attention, in the same minute."""
        name = f"features fp16 D{dim} {feature} {size_of(tokens)}"
        if not self.is_wanted(name):
            return
        heads, batch = HEADS[dim], TOKENS // tokens
        query, key, value = tensors(batch, tokens, tokens, heads, heads, dim, dim, torch.float16)
        output = torch.empty_like(query)
        law, mask, bias = {"causal": True}, None, None
        if feature == "alibi":
            law["alibi_slopes"] = slopes(heads)
        elif feature.startswith("window"):
            law["window_left"] = (int(feature[7:-1]) << 10) - 1
        elif feature == "sinks":
            law["sink_logits"] = [0.1 * head for head in range(heads)]
        elif feature == "soft-cap":
            law["soft_cap"] = 30.0
        elif feature == "mask-random":
            mask = torch.rand(1, 1, tokens, tokens, device="cuda") < 0.5
            mask |= torch.eye(tokens, device="cuda", dtype=torch.bool)
        elif feature == "mask-half":
            # Every other stripe of 1,024 keys: half of the tiles have nothing.
            mask = ((torch.arange(tokens, device="cuda") // 1024) % 2 == 0).expand(1, 1, tokens, tokens).contiguous()
        elif feature == "bias-keys":
            bias = torch.randn(batch, 1, 1, tokens, device="cuda", dtype=torch.float16)
        elif feature == "bias-full":
            bias = torch.randn(1, 1, tokens, tokens, device="cuda", dtype=torch.float16)
        sets, plain = [(query, key, value)], {"causal": True}
        contenders = self.ours(output, sets, name="ours plain", plain=(dense_sequences(query, key, value), plain), **plain)
        if self.peers and self.flex_wanted(name):
            contenders.append(flex(sets, law))
        contenders += self.ours(output, sets, mask=mask, bias=bias, **law)
        row = dict(suite="features", row=name, type="fp16", dim=dim, heads=heads, kv_heads=heads, batch=batch, queries=tokens, keys=tokens, mask=feature)
        self.run(row, contenders, dense_sequences(query, key, value, mask, bias), law, sustain=False)

    # -- score and mask functions

    def functions(self):
        for dim in (64, 128):
            for kind in functions.ALL:
                self.function_row(dim, kind)
        for kind in ("alibi", "t5"):
            self.function_decode(kind)

    def function_row(self, dim, kind, tokens=8192):
        """A function beside plain causal attention, beside what the options have built in for it, and beside FlexAttention with the same function."""
        name = f"functions fp16 D{dim} {kind} {size_of(tokens)}"
        if not self.is_wanted(name):
            return
        heads, batch = HEADS[dim], TOKENS // tokens
        query, key, value = tensors(batch, tokens, tokens, heads, heads, dim, dim, torch.float16)
        self.beside_plain(dict(row=name, dim=dim, mask=kind), functions.ALL[kind](heads, batch, tokens), {"causal": True}, query, key, value, self.forms)

    def function_decode(self, kind, batch=8, heads=32, kv_heads=8, keys=8192, dim=128):
        name = f"functions fp16 D{dim} {kind} decode B{batch} {heads}/{kv_heads} x {size_of(keys)}"
        if not self.is_wanted(name):
            return
        # 256 MB of keys and values: no L2 has them from one call to the next.
        query, key, value = tensors(batch, 1, keys, heads, kv_heads, dim, dim, torch.float16)
        self.beside_plain(dict(row=name, dim=dim, mask=kind), functions.ALL[kind](heads, batch, keys), {}, query, key, value, ("default",))

    def beside_plain(self, row, function, plain, query, key, value, forms):
        output, sets, law = torch.empty_like(query), [(query, key, value)], function.law()
        sequences = dense_sequences(query, key, value)
        contenders = self.ours(output, sets, forms, name="ours plain", plain=(sequences, plain), **plain)
        if function.built_in:
            contenders += self.ours(output, sets, forms, name="ours built-in", causal=law["causal"], **function.built_in)
        if self.peers and self.flex_wanted(row["row"]):
            contenders.append(flex(sets, law))
        contenders += self.ours(output, sets, forms, **law)
        batch, queries, heads = query.shape[:3]
        self.run(dict(row, suite="functions", type="fp16", heads=heads, kv_heads=key.shape[2], batch=batch, queries=queries, keys=key.shape[1]), contenders, sequences, law)

    def paged_prefill(self, dim, block, tokens=8192):
        """The same prefill out of blocks in random order, beside dense keys."""
        name = f"features fp16 D{dim} paged-{block} {size_of(tokens)}"
        if not self.is_wanted(name):
            return
        heads, batch, law = HEADS[dim], TOKENS // tokens, {"causal": True}
        query, key, value = tensors(batch, tokens, tokens, heads, heads, dim, dim, torch.float16)
        output = torch.empty_like(query)
        keys, values, tables = pages([key[b] for b in range(batch)], [value[b] for b in range(batch)], block)
        sequences = dense_sequences(query, key, value)
        packed = [Sequence(query[b], key[b], value[b], lambda rows, b=b: rows[b * tokens:(b + 1) * tokens]) for b in (0, batch - 1)]
        flat_output = torch.empty(batch * tokens, heads, dim, device="cuda", dtype=query.dtype)
        contenders = self.ours(output, [(query, key, value)], name="ours plain", plain=(sequences, law), **law)
        contenders += self.ours(
            flat_output, [(query.flatten(0, 1), keys, values)], kind=native.PAGED, cumulative_query_lengths=[b * tokens for b in range(batch + 1)], key_lengths=[tokens] * batch, block_tables=tables, **law)
        row = dict(suite="features", row=name, type="fp16", dim=dim, heads=heads, kv_heads=heads, batch=batch, queries=tokens, keys=tokens, mask=f"paged-{block}")
        self.run(row, contenders, packed, law, sustain=False)

    def packed_prefill(self, dim):
        """Sequences of mixed lengths, beside as many rows of one length: rates, as the work differs."""
        lengths = [128, 4096, 512, 8192, 1024, 128, 2048, 256]
        for kind, these in (("packed-mixed", lengths), ("packed-even", [4096] * 4)):
            name = f"features fp16 D{dim} {kind} 16k"
            if not self.is_wanted(name):
                continue
            heads, law = HEADS[dim], {"causal": True}
            query, key, value = (tensor[0] for tensor in tensors(1, sum(these), sum(these), heads, heads, dim, dim, torch.float16))
            output = torch.empty_like(query)
            starts = cumulative(these)
            sequences = [Sequence(query[a:b], key[a:b], value[a:b], lambda rows, a=a, b=b: rows[a:b]) for a, b in zip(starts, starts[1:])]
            contenders = self.ours(output, [(query, key, value)], kind=native.PACKED, cumulative_query_lengths=starts, key_lengths=starts, **law)
            row = dict(suite="features", row=name, type="fp16", dim=dim, heads=heads, kv_heads=heads, batch=len(these), queries=sum(these), keys=sum(these), mask=kind)
            self.run(row, contenders, sequences, law, operations=operations_of(heads, dim, dim, [(length, length) for length in these], law), sustain=False)

    # -- decode

    def decode(self):
        for type_name in TYPES:
            for batch, heads, kv_heads, keys in ((64, 64, 8, 8192), (64, 32, 8, 4096), (8, 32, 8, 8192), (16, 32, 8, 2048), (1, 32, 8, 32768), (1, 32, 8, 4096)):
                self.decode_row(type_name, batch, heads, kv_heads, keys)
        for type_name in TYPES:
            for codes_name in CODES:
                for batch, heads, keys in ((64, 64, 8192), (8, 32, 8192), (1, 32, 32768)):
                    self.codes_row(type_name, codes_name, batch, heads, 8, keys)
        for block in (16, 1):
            for batch, heads, keys in ((64, 64, 8192), (8, 32, 8192), (1, 32, 32768)):
                self.paged_decode(f"B{batch} {heads}/8 x {size_of(keys)}", [keys] * batch, heads, block)
        self.paged_decode("64k among 63 x 1k", [65536] + [1024] * 63, 32, 16)
        self.paged_decode("64 x 2032", [2032] * 64, 32, 16)

    def decode_row(self, type_name, batch, heads, kv_heads, keys, dim=128):
        name = f"decode {type_name} D{dim} B{batch} {heads}/{kv_heads} x {size_of(keys)}"
        if not self.is_wanted(name):
            return
        length = batch * keys * kv_heads * dim * 4
        count = max(1, -(-ROTATED // length) + (length < ROTATED))
        query = torch.randn(batch, 1, heads, dim, device="cuda", dtype=TYPES[type_name])
        sets = [(query, *tensors(batch, 1, keys, heads, kv_heads, dim, dim, query.dtype)[1:]) for _ in range(count)]
        output = torch.empty_like(query)
        contenders = sdpa_peers(sets, layouts=("token-major", "head-major", "folded")) if self.peers else []
        for layout in ("token-major", "head-major"):
            contenders += self.ours(output, sets, forms=("default",), layout=layout)
        row = dict(suite="decode", row=name, type=type_name, dim=dim, heads=heads, kv_heads=kv_heads, batch=batch, queries=1, keys=keys, sets=count)
        self.run(row, contenders, dense_sequences(query, *sets[0][1:]), {}, key_value_bytes=length)

    def codes_row(self, type_name, codes_name, batch, heads, kv_heads, keys, dim=128):
        """Keys and values of 8 bits with a scale for each token and head. Bytes are those of the codes: the scales are 3 % more. The fp16 row of the same numbers has twice the bytes a token."""
        name = f"decode {type_name}-{codes_name} D{dim} B{batch} {heads}/{kv_heads} x {size_of(keys)}"
        if not self.is_wanted(name):
            return
        length = batch * keys * kv_heads * dim * 2
        count = max(1, -(-ROTATED // length) + (length < ROTATED))
        query = torch.randn(batch, 1, heads, dim, device="cuda", dtype=TYPES[type_name])
        sets = [(query, *(codes(codes_name, batch, keys, kv_heads, dim) for _ in range(2))) for _ in range(count)]
        key_scale, value_scale = (torch.rand(batch, keys, kv_heads, device="cuda") * (0.03 if codes_name == "int8" else 1.0) + 0.01 for _ in range(2))
        output = torch.empty_like(query)
        contenders = self.ours(output, sets, forms=("default",), key_scale=key_scale, value_scale=value_scale)
        sequences = [
            Sequence(query[b], sets[0][1][b].float() * key_scale[b, ..., None], sets[0][2][b].float() * value_scale[b, ..., None], lambda rows, b=b: rows[b])
            for b in sorted({0, batch - 1})]
        row = dict(suite="decode", row=name, type=f"{type_name}-{codes_name}", dim=dim, heads=heads, kv_heads=kv_heads, batch=batch, queries=1, keys=keys, sets=count)
        self.run(row, contenders, sequences, {}, key_value_bytes=length)

    def paged_decode(self, label, lengths, heads, block, kv_heads=8, dim=128):
        name = f"decode fp16 D{dim} {label} paged-{block}"
        if not self.is_wanted(name):
            return
        length = sum(lengths) * kv_heads * dim * 4
        count = max(1, -(-ROTATED // length) + (length < ROTATED))
        query = torch.randn(len(lengths), heads, dim, device="cuda", dtype=torch.float16)
        output = torch.empty_like(query)
        sets, tables, sequences = [], None, None
        for _ in range(count):
            keys, values = ([torch.randn(tokens, kv_heads, dim, device="cuda", dtype=torch.float16) for tokens in lengths] for _ in range(2))
            key_blocks, value_blocks, these = pages(keys, values, block, seed=1)
            sequences = sequences or [Sequence(query[b:b + 1], keys[b], values[b], lambda rows, b=b: rows[b:b + 1]) for b in sorted({0, len(lengths) - 1})]
            tables = tables or these
            sets.append((query, key_blocks, value_blocks))
        contenders = self.ours(output, sets, forms=("default",), kind=native.PAGED, cumulative_query_lengths=list(range(len(lengths) + 1)), key_lengths=lengths, block_tables=tables)
        row = dict(suite="decode", row=name, type="fp16", dim=dim, heads=heads, kv_heads=kv_heads, batch=len(lengths), queries=1, keys=max(lengths), sets=count, block=block)
        # A token a block is a table of 2 MB a call at the largest: groups of such calls would measure the host's memory.
        self.run(row, contenders, sequences, {}, key_value_bytes=length, sustain=block > 1)


def cumulative(lengths):
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    return starts


def pages(keys, values, block, seed=0):
    """Contents of sequences in blocks, [blocks, block, heads, dim], in random order; and the tables of the sequences, as long as the longest."""
    counts = [-(-tensor.shape[0] // block) for tensor in keys]
    order = list(range(sum(counts)))
    random.Random(seed).shuffle(order)
    starts = cumulative(counts)
    mine = [order[a:b] for a, b in zip(starts, starts[1:])]
    result = []
    for tensors_ in (keys, values):
        heads, dim = tensors_[0].shape[1:]
        pool = torch.zeros(sum(counts), block, heads, dim, device="cuda", dtype=tensors_[0].dtype)
        for tensor, numbers in zip(tensors_, mine):
            padded = torch.zeros(len(numbers) * block, heads, dim, device="cuda", dtype=tensor.dtype)
            padded[:tensor.shape[0]] = tensor
            pool[torch.tensor(numbers, device="cuda")] = padded.view(len(numbers), block, heads, dim)
        result.append(pool)
    return result[0], result[1], [numbers + [0] * (max(counts) - len(numbers)) for numbers in mine]
