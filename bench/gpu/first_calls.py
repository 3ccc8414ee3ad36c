"""How long a program waits for the first call with a function that it has not called before: ours from the function to the result, FlexAttention's compiled call to its result. In a process of its own; prints JSON lines."""
import argparse
import json
import os
import re
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--forms", default="mma,wgmma")
    parser.add_argument("--flex", default="", help="rows that FlexAttention takes part in")
    chosen = parser.parse_args()
    os.environ["CUDA_CACHE_DISABLE"] = "1"
    import torch

    import functions
    from contenders import set_up_flex
    from native import Library
    from suites import HEADS, tensors

    # The row before all pays for what a process pays once, the compilers' own loading among it.
    dim, tokens, batch = 128, 8192, 2
    rows = [("plain, first of the process", {"causal": True})] + [(name, kind(HEADS[dim], batch, tokens).law()) for name, kind in functions.ALL.items()]
    rows = [(f"first call fp16 D{dim} {name} {tokens >> 10}k", law) for name, law in rows]
    wanted = [row for row in rows if re.search(chosen.only, row[0])]
    if not wanted:
        return
    library = Library()
    torch.zeros(1, device="cuda")
    library.open()
    torch.manual_seed(0)
    set_up_flex()
    query, key, value = tensors(batch, tokens, tokens, HEADS[dim], HEADS[dim], dim, dim, torch.float16)
    output = torch.empty_like(query)
    for row in rows[:1] + [row for row in wanted if row is not rows[0]]:
        measure_row(*row, library, output, [(query, key, value)], chosen, row in wanted)


def measure_row(name, law, library, output, sets, chosen, is_wanted):
    import torch

    from contenders import flex, ours
    from measure import Skipped
    contenders = [ours(library, form, output, sets, **law) for form in chosen.forms.split(",")] + ([flex(sets, law)] if re.search(chosen.flex, name) else [])
    for contender in contenders:
        line = {"suite": "first-calls", "row": name, "contender": contender.name, "variant": contender.variant, "status": "timed"}
        try:
            torch.cuda.synchronize()
            start = time.perf_counter()
            run, _ = contender.make(contender)
            if contender.name == "FlexAttention":
                # Its block mask is made once for many calls, and is not counted.
                torch.cuda.synchronize()
                start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            line["first_seconds"] = round(time.perf_counter() - start, 4)
        except Skipped as reason:
            line.update(status="skipped", note=str(reason))
        except Exception as failure:
            line.update(status="wrong" if contender.name == "ours" else "refused", note=str(failure).strip()[:300] or type(failure).__name__)
        line.update(contender.extra)
        if hasattr(contender, "close"):
            contender.close()
        if is_wanted:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
