"""Prefill of bfloat16 by FusedAttention and by PyTorch in one process, in turns: errors first, then medians and their ratios.

    prefill.py [--seconds N] [--threads N] [--only REGEX]

Memory is [token][head][dim] for both. Exit code 1: an error is larger than 1.1 times PyTorch's.
"""
import argparse
import ctypes as C
import os
import re
import sys
import time

import torch

sys.stdout.reconfigure(line_buffering=True)
REST = 0.02       # seconds between contenders, until the threads of the other one sleep
BURST = 0.06      # seconds of calls of one contender, of which the first does not count
MOST_TEXT = 1 << 14


class NativePrefill(C.Structure):
    _fields_ = [(name, C.c_void_p) for name in ("query", "key", "value", "output")] + [
        (name, C.c_int64) for name in ("tokens", "query_heads", "key_value_heads", "dim", "is_causal", "threads", "machine_code")]


class Library:
    def __init__(self, path):
        self.library = C.CDLL(path)
        for name in ("fa_prefill", "fa_explain", "fa_last_error"):
            getattr(self.library, name).restype = C.c_int

    def check(self, result):
        if result < 0:
            text = C.create_string_buffer(MOST_TEXT)
            self.library.fa_last_error(text, MOST_TEXT)
            raise SystemExit(text.value.decode())

    def explain(self, call):
        text = C.create_string_buffer(MOST_TEXT)
        self.check(self.library.fa_explain(C.byref(call), text, MOST_TEXT))
        return text.value.decode()

    def caller(self, call):
        run, at = self.library.fa_prefill, C.byref(call)

        def once():
            if run(at) < 0:
                self.check(-1)
        return once


class Problem:
    def __init__(self, tokens, heads, key_value_heads, dim, causal, deviation=1.0):
        generator = torch.Generator().manual_seed(tokens + dim)
        draw = lambda count, factor: (torch.randn(tokens, count, dim, generator=generator) * factor).to(torch.bfloat16)
        self.query, self.key, self.value = draw(heads, deviation), draw(key_value_heads, 1.0), draw(key_value_heads, 1.0)
        self.output = torch.empty_like(self.query)
        self.tokens, self.heads, self.key_value_heads, self.dim, self.causal = tokens, heads, key_value_heads, dim, causal
        pairs = tokens * (tokens + 1) / 2 if causal else tokens * tokens
        self.operations = 4.0 * pairs * heads * dim

    def call(self, threads, machine_code=1):
        return NativePrefill(
            self.query.data_ptr(), self.key.data_ptr(), self.value.data_ptr(), self.output.data_ptr(),
            self.tokens, self.heads, self.key_value_heads, self.dim, int(self.causal), threads, machine_code)

    def views(self):
        return [x.unsqueeze(0).transpose(1, 2) for x in (self.query, self.key, self.value)]

    def peers(self):
        """PyTorch's ways: for grouped heads its own, and keys and values repeated beforehand."""
        query, key, value = self.views()
        attention = torch.nn.functional.scaled_dot_product_attention
        group = self.heads // self.key_value_heads
        if group == 1:
            return {"torch": lambda: attention(query, key, value, is_causal=self.causal)}
        long_key, long_value = (x.repeat_interleave(group, 1) for x in (key, value))
        return {"torch repeated": lambda: attention(query, long_key, long_value, is_causal=self.causal),
                "torch gqa": lambda: attention(query, key, value, is_causal=self.causal, enable_gqa=True)}

    def exact(self):
        """In double precision, a head at a time; [token, head, dim]."""
        output = torch.empty(self.tokens, self.heads, self.dim, dtype=torch.float64)
        hidden = torch.ones(self.tokens, self.tokens, dtype=torch.bool).triu(1) if self.causal else None
        for h in range(self.heads):
            g = h * self.key_value_heads // self.heads
            scores = self.query[:, h].double() @ self.key[:, g].double().T / self.dim ** 0.5
            if hidden is not None:
                scores.masked_fill_(hidden, -float("inf"))
            output[:, h] = torch.softmax(scores, 1) @ self.value[:, g].double()
        return output


def errors(library, threads):
    """Root mean squares and largest of the errors, relative to the outputs' root mean square."""
    wrong = False
    for tokens, heads, key_value_heads, dim, causal, deviation in (
            (512, 8, 8, 128, False, 1), (512, 8, 8, 64, True, 1), (2048, 4, 4, 128, False, 1), (2048, 4, 4, 128, True, 1), (2048, 4, 4, 64, False, 1), (2048, 8, 2, 64, True, 1),
            (1000, 4, 4, 128, True, 8), (1000, 4, 4, 64, False, 8), (777, 4, 2, 96, True, 1)):
        problem = Problem(tokens, heads, key_value_heads, dim, causal, deviation)
        exact = problem.exact()
        library.caller(problem.call(threads))()
        scale = exact.square().mean().sqrt()
        rms = lambda output: ((output.double() - exact).square().mean().sqrt() / scale).item()
        most = lambda output: ((output.double() - exact).abs().max() / scale).item()
        peer = next(iter(problem.peers().values()))()[0].transpose(0, 1)
        ours, theirs = rms(problem.output), rms(peer)
        is_wrong = not ours <= 1.1 * theirs
        wrong |= is_wrong
        print(f"errors {tokens} x {heads}/{key_value_heads} x {dim} {'causal' if causal else 'full'} deviation {deviation}: "
              f"ours rms {ours:.2e} max {most(problem.output):.2e}, torch rms {theirs:.2e} max {most(peer):.2e}{'  WRONG' if is_wrong else ''}")
    return wrong


def time_in_turns(contenders, seconds):
    """Medians of seconds by name."""
    for call in contenders.values():
        call()
    times = {name: [] for name in contenders}
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or min(map(len, times.values())) < 3:
        for name, call in contenders.items():
            time.sleep(REST)
            call()
            begin = time.perf_counter()
            while True:
                before = time.perf_counter()
                call()
                now = time.perf_counter()
                times[name].append(now - before)
                if now - begin > BURST:
                    break
        if time.perf_counter() - start > 3 * seconds:
            break
    return {name: sorted(of)[len(of) // 2] for name, of in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="for a shape (%(default)s)")
    parser.add_argument("--threads", type=int, default=min(16, os.cpu_count()))
    parser.add_argument("--only", default="", metavar="REGEX", help="shapes whose name this matches")
    parser.add_argument("--no-errors", action="store_true")
    parser.add_argument("--before", metavar="LIBRARY", help="another build of ours, timed beside it")
    parser.add_argument("--library", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "FusedAttention.Cpu.Comparison.so"))
    chosen = parser.parse_args()
    library = Library(chosen.library)
    before = Library(chosen.before) if chosen.before else None
    torch.set_num_threads(chosen.threads)
    print(library.explain(Problem(512, 8, 8, 128, False).call(chosen.threads)))
    print(f"torch {torch.__version__}, {chosen.threads} threads, load {os.getloadavg()[0]:.1f}")
    with torch.inference_mode():
        wrong = not chosen.no_errors and errors(library, chosen.threads)
        shapes = [(tokens, 8, 8, dim, causal, chosen.threads) for tokens in (512, 2048, 8192) for dim in (128, 64) for causal in (False, True)]
        shapes += [(2048, 32, 8, 128, causal, chosen.threads) for causal in (False, True)]
        shapes += [(2048, 8, 8, dim, causal, 1) for dim in (128, 64) for causal in (False, True)]
        for tokens, heads, key_value_heads, dim, causal, threads in shapes:
            name = f"{tokens} x {heads}/{key_value_heads} x {dim} {'causal' if causal else 'full'} threads {threads}"
            if not re.search(chosen.only, name):
                continue
            torch.set_num_threads(threads)
            problem = Problem(tokens, heads, key_value_heads, dim, causal)
            other = {"before": before.caller(problem.call(threads))} if before else {"intrinsics": library.caller(problem.call(threads, 0))}
            contenders = {"ours": library.caller(problem.call(threads)), **other, **problem.peers()}
            medians = time_in_turns(contenders, chosen.seconds)
            best = min(time for peer, time in medians.items() if peer.startswith("torch"))
            rates = ", ".join(f"{which} {problem.operations / median / 1e12:.2f}" for which, median in medians.items())
            print(f"times {name}: {rates} TFLOP/s; ours {medians['ours'] * 1e3:.3f} ms, {best / medians['ours']:.2f} x torch")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
