"""Who computes a row: FusedAttention by its C library, and PyTorch's attentions. Tensors are [batch, token, head, dim]; a peer gets them in the layouts it likes, and the better one counts."""
import math

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import native
from measure import Contender, Skipped


def ours(library, form, output, sets, name="ours", plain=None, layout="token-major", build=None, **call):
    """One form of ours, over sets of (query, key, value) in turn. A form that the plan of the call refuses is left out: the other one runs then. Another layout of keys and values is the variant's name, another build is part of ours."""
    def make(self):
        output.fill_(float("nan"))
        # The library is told strides, so a view serves; the structures have addresses only, so the views are kept.
        self.tensors = [(query, head_major(key).transpose(1, 2), head_major(value).transpose(1, 2)) for query, key, value in sets] if layout == "head-major" else sets
        calls = [library.create(native.describe_call(*tensors, output, form=form, stream=torch.cuda.current_stream().cuda_stream, **call)) for tensors in self.tensors]

        def close():
            for each in calls:
                each.release()
            self.tensors = None
        self.calls, self.close = calls, close
        explanation = calls[0].explain()
        self.extra["kernel"] = native.kernel_of(explanation)
        if form == "wgmma" and self.extra["kernel"] != form:
            raise Skipped(native.refusal_of(explanation))
        self.extra["load_seconds"] = round(calls[0].load(), 4)
        return in_turn([lambda each=each: (each(), output)[1] for each in calls]), lambda raw: raw
    contender = Contender(f"{name} ({build})" if build else name, form if layout == "token-major" else layout, make, plain=plain)
    if build:
        contender.extra["build"] = build
    return contender


def in_turn(functions):
    if len(functions) == 1:
        return functions[0]
    place = [0]

    def run():
        function = functions[place[0]]
        place[0] = (place[0] + 1) % len(functions)
        return function()
    return run


def head_major(tensor):
    return tensor.transpose(1, 2).contiguous()


def token_major(tensor):
    return tensor.transpose(1, 2)


def folded(query, heads):
    """Queries of a group as rows of one key/value head: what decoding with few heads of keys is fastest as."""
    batch, queries, query_heads, dim = query.shape
    return query.reshape(batch, heads, query_heads // heads, dim) if queries == 1 else None


def scaled_dot_product(backend, name, layout, sets, causal=False):
    """PyTorch's scaled_dot_product_attention with one of its back ends."""
    def make(_):
        grouped = sets[0][0].shape[2] != sets[0][1].shape[2]
        batch, queries, heads, dim = sets[0][0].shape
        arrange = head_major if layout == "head-major" else token_major
        if layout == "folded":
            arranged = [(folded(query, key.shape[2]), token_major(key), token_major(value)) for query, key, value in sets]
        else:
            arranged = [tuple(arrange(tensor) for tensor in tensors) for tensors in sets]
        options = {"enable_gqa": True} if grouped and layout != "folded" else {}
        # A single query that sees all keys is not causal to these kernels: they align masks at the upper left.
        options["is_causal"] = causal and queries > 1
        runs = [lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v, **options) for q, k, v in arranged]
        return in_turn(runs), lambda raw: raw.reshape(batch, 1, heads, -1) if layout == "folded" else raw.transpose(1, 2)
    return Contender(name, layout, make, context=lambda: sdpa_kernel(backend))


def sdpa_peers(sets, causal=False, layouts=("token-major", "head-major")):
    return [scaled_dot_product(backend, name, layout, sets, causal)
            for backend, name in ((SDPBackend.FLASH_ATTENTION, "FlashAttention 2"), (SDPBackend.CUDNN_ATTENTION, "cuDNN")) for layout in layouts]


def score_mod_of(function, offset, device):
    """A function as users of FlexAttention write it: what it has captured lies on the card. The position of query i is i + offset."""
    def on_card(values):
        return torch.tensor(values, device=device)
    if function.name == "alibi":
        slopes = on_card(function.slopes)
        return lambda score, b, h, i, j: score - slopes[h] * (i + offset - j)
    if function.name == "t5":
        biases, farthest = on_card([function.by_distance(head) for head in range(function.heads)]), function.farthest
        return lambda score, b, h, i, j: score + biases[h, (i + offset - j).clamp(0, farthest)]
    if function.name == "head-temperature":
        temperatures = on_card(function.temperatures)
        return lambda score, b, h, i, j: score * temperatures[h]
    if function.name == "log-n":
        # A row's factor is a table: no user computes a logarithm a score.
        factors = torch.log(torch.arange(1, function.tokens + 1, device=device, dtype=torch.float32)).div(math.log(function.trained)).clamp(min=1)
        return lambda score, b, h, i, j: score * factors[i + offset]
    if function.name == "scalable-softmax":
        factors = on_card(function.scales) * math.log(function.tokens)
        return lambda score, b, h, i, j: score * factors[h]
    if function.name == "grid-alibi":
        slopes, width = on_card(function.slopes), function.width
        return lambda score, b, h, i, j: score - slopes[h] * (((i + offset) // width - j // width).abs() + ((i + offset) % width - j % width).abs())
    if function.name == "tanh-cap":
        cap = function.cap
        return lambda score, b, h, i, j: cap * torch.tanh(score / cap)
    raise ValueError(f"no score function {function.name}")


def mask_mod_of(function, offset, device):
    """As users of FlexAttention write it, beside the call's own mask; and whether it looks at the sequence."""
    if function.name == "document":
        documents = torch.tensor(function.documents, device=device, dtype=torch.int32)
        return lambda b, h, i, j: documents[b, i + offset] == documents[b, j], True
    if function.name == "prefix":
        lengths = torch.tensor(function.lengths, device=device, dtype=torch.int32)
        return lambda b, h, i, j: (j < lengths[b]) | (j <= i + offset), True
    if function.name == "dilated-window":
        reach, step = function.window * function.step, function.step
        return lambda b, h, i, j: (i + offset - j < reach) & ((i + offset - j) % step == 0), False
    if function.name == "global-local":
        first, reach = function.first, function.reach
        return lambda b, h, i, j: (j < first) | ((i + offset - j).abs() <= reach), False
    raise ValueError(f"no mask function {function.name}")


def flex(sets, law):
    """FlexAttention, compiled for the shape: causal masks, windows and mask functions as a block mask, ALiBi, soft caps and score functions as a score function."""
    def make(_):
        from torch.nn.attention.flex_attention import and_masks, create_block_mask, flex_attention
        query, key, value = (head_major(tensor) for tensor in sets[0])
        heads, queries, keys = query.shape[1], query.shape[2], key.shape[2]
        left, causal, cap = law.get("window_left", -1), law.get("causal"), law.get("soft_cap")
        options = {"enable_gqa": heads != key.shape[1]}
        offset, masks, sequences = keys - queries, [], None
        # A single query at the end of the keys sees all of them, causal or not.
        if causal and left >= 0:
            masks.append(lambda b, h, i, j: (i + offset >= j) & (i + offset - j <= left))
        elif causal and queries > 1:
            masks.append(lambda b, h, i, j: i + offset >= j)
        if law.get("mask_function"):
            kept, looks_at_sequence = mask_mod_of(law["mask_function"], offset, query.device)
            masks.append(kept)
            sequences = query.shape[0] if looks_at_sequence else None
        if masks:
            options["block_mask"] = create_block_mask(and_masks(*masks) if len(masks) > 1 else masks[0], sequences, None, queries, keys, device=query.device)
        if law.get("score_function"):
            options["score_mod"] = score_mod_of(law["score_function"], offset, query.device)
        elif law.get("alibi_slopes"):
            slopes = torch.tensor(law["alibi_slopes"], device=query.device)
            options["score_mod"] = lambda score, b, h, i, j: score - slopes[h] * (i - j)
        elif cap:
            options["score_mod"] = lambda score, b, h, i, j: cap * torch.tanh(score / cap)
        compiled = torch.compile(flex_attention, dynamic=False)
        return lambda: compiled(query, key, value, **options), lambda raw: raw.transpose(1, 2)
    return Contender("FlexAttention", "head-major", make)


def set_up_flex():
    """Each shape is compiled for itself, and there are many."""
    import torch._dynamo
    for name in ("recompile_limit", "cache_size_limit", "accumulated_recompile_limit", "accumulated_cache_size_limit"):
        if hasattr(torch._dynamo.config, name):
            setattr(torch._dynamo.config, name, 1000)
