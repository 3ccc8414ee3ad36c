"""Who computes a row: FusedAttention by its C library, and PyTorch's attentions. Tensors are [batch, token, head, dim]; a peer gets them in the layouts it likes, and the better one counts."""
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import native
from measure import Contender, Skipped


def ours(library, form, output, sets, name="ours", plain=None, layout="token-major", **call):
    """One form of ours, over sets of (query, key, value) in turn. A form that the plan of the call refuses is left out: the other one runs then. Another layout of keys and values is the variant's name."""
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
    return Contender(name, form if layout == "token-major" else layout, make, plain=plain)


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


def flex(sets, law):
    """FlexAttention, compiled for the shape: causal masks and windows as a block mask, ALiBi and soft caps as a score function."""
    def make(_):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        query, key, value = (head_major(tensor) for tensor in sets[0])
        heads, queries, keys = query.shape[1], query.shape[2], key.shape[2]
        left, causal, cap = law.get("window_left", -1), law.get("causal"), law.get("soft_cap")
        options = {"enable_gqa": heads != key.shape[1]}
        if causal and left >= 0:
            options["block_mask"] = create_block_mask(lambda b, h, i, j: (i >= j) & (i - j <= left), None, None, queries, keys, device=query.device)
        elif causal:
            options["block_mask"] = create_block_mask(lambda b, h, i, j: i >= j, None, None, queries, keys, device=query.device)
        if law.get("alibi_slopes"):
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
