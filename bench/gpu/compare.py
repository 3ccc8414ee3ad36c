"""Times FusedAttention beside FlashAttention 2, cuDNN and FlexAttention in one process, on the same inputs, in turns."""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

FORMS = ("mma", "wgmma")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Suites: " + "; ".join((
        "core (prefill fp16, D64/128/256, 1k/8k/16k)", "prefill", "features (ours against our plain causal)", "functions (score and mask functions)", "decode", "first (loading kernels, first calls of functions)", "host (microseconds of the processor for a call)", "all")))
    parser.add_argument("suites", nargs="*", default=["core"], help="core if none is named")
    parser.add_argument("--only", metavar="REGEX", default="", help="rows whose name this matches, as 'D128 causal'; --list shows the names")
    parser.add_argument("--flex", metavar="REGEX", default=r"prefill fp16 D(64|128|256) (full|causal) 8k$|prefill.*(alibi|window)|functions|first call", help="rows for which FlexAttention is compiled (seconds each)")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--forms", default=",".join(FORMS), help="our forms in rows of prefill and features, with commas between (%(default)s)")
    parser.add_argument("--beside", metavar="LIBRARY", action="append", default=[], help="another build of FusedAttention.Cuda.Comparison.so, timed in turns with this one: what a change does; may be repeated")
    parser.add_argument("--launches", type=int, default=14, help="single launches of which the best counts")
    parser.add_argument("--limit", type=float, default=540, metavar="SECONDS", help="no row begins after this")
    parser.add_argument("--out", metavar="FILE", help="where JSON lines go: a file in $OUT or beside this script if not given")
    parser.add_argument("--list", action="store_true", help="only names of rows")
    chosen = parser.parse_args()
    known = ("core", "prefill", "features", "functions", "decode", "first", "host", "all")
    unknown = [suite for suite in chosen.suites if suite not in known]
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}; expected {', '.join(known)}")
    chosen.forms = tuple(chosen.forms.split(","))
    if not set(chosen.forms) <= set(FORMS):
        parser.error(f"--forms {','.join(chosen.forms)}: expected some of {', '.join(FORMS)}")
    if "all" in chosen.suites:
        chosen.suites = ["prefill", "features", "functions", "decode", "first", "host"]
    return chosen


def main():
    chosen = arguments()
    here = os.path.dirname(os.path.abspath(__file__))
    out = chosen.out or os.path.join(os.environ.get("OUT") or here, "compare.jsonl")
    import torch

    from contenders import set_up_flex
    from measure import OutOfTime, Recorder
    from native import FusedAttentionError, Library
    from suites import CORE, Suites

    if chosen.list:
        out = os.devnull
    recorder = Recorder(out, chosen.limit)
    only, flex_rows = re.compile(chosen.only), re.compile(chosen.flex)
    if chosen.list:
        suites = Suites(None, recorder, lambda name: only.search(name) and print(name), None, 0)
        for suite in ("prefill", "features", "functions", "decode"):
            getattr(suites, suite)()
        return 0
    library, others = Library(), {os.path.splitext(os.path.basename(path))[0]: Library(os.path.abspath(path)) for path in chosen.beside}
    torch.zeros(1, device="cuda")
    device = library.open()
    for other in others.values():
        other.open()
    torch.manual_seed(0)
    set_up_flex()
    recorder.emit(suite="machine", **machine(here, device))
    recorder.say(f"{device}, driver {recorder.lines[-1].get('driver')}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}; lines go to {out}")
    recorder.watch(lambda: report(recorder, out))
    matched = 0
    for suite in chosen.suites:
        pattern = re.compile(CORE if suite == "core" else "")
        suites = Suites(
            library, recorder, lambda name, pattern=pattern: pattern.search(name) and only.search(name), lambda name: bool(flex_rows.search(name)), chosen.launches,
            peers=not chosen.no_peers, forms=chosen.forms, others=others)
        try:
            if suite == "first":
                matched += first(recorder, here, only) + first_calls(recorder, here, chosen)
            elif suite == "host":
                from host import host
                matched += host(library, recorder, only, not chosen.no_peers)
            else:
                getattr(suites, "prefill" if suite == "core" else suite)()
        except OutOfTime:
            matched += 1
            recorder.say(f"time is up: {suite} is not complete")
        except (RuntimeError, FusedAttentionError) as failure:
            matched += 1
            recorder.say(f"the card failed in {recorder.doing}: {failure}")
            break
        matched += suites.matched
    if matched == 0:
        print("No row has such a name; --list shows them.", file=sys.stderr)
        return 2
    return report(recorder, out)


def report(recorder, out):
    """Prints the tables and says what was wrong."""
    import tables
    text = tables.of(recorder.lines)
    print(text, flush=True)
    if out.endswith(".jsonl"):
        with open(out[:-len("jsonl")] + "txt", "w") as file:
            file.write(text + "\n")
    wrong = [line for line in recorder.lines if line.get("status") == "wrong"]
    for line in wrong:
        print(f"WRONG: {line['row']}: {line['contender']} {line['variant']}: {line.get('note')}", file=sys.stderr)
    return 1 if any(line["contender"].startswith("ours") for line in wrong) else 0


def machine(here, device):
    import torch
    facts = {"device": device, "gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
             "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), "multiprocessors": torch.cuda.get_device_properties(0).multi_processor_count}
    try:
        facts["driver"] = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True, timeout=20).stdout.split("\n")[0].strip()
    except (OSError, subprocess.TimeoutExpired):
        facts["driver"] = "unknown"
    try:
        with open(os.path.join(here, "commit")) as file:
            facts["commit"] = file.read().strip()
    except OSError:
        facts["commit"] = "unknown"
    return facts


def first_calls(recorder, here, chosen):
    """In another process, with PyTorch, whose compiler finds nothing of what earlier rows have left."""
    from measure import OutOfTime
    matched = 0
    with tempfile.TemporaryDirectory() as cache:
        environment = dict(os.environ, CUDA_CACHE_DISABLE="1", FUSEDATTENTION_CUDA_KERNELS="", TORCHINDUCTOR_CACHE_DIR=cache, TRITON_CACHE_DIR=os.path.join(cache, "triton"))
        command = [sys.executable, os.path.join(here, "first_calls.py"), "--only", chosen.only, "--forms", ",".join(chosen.forms), "--flex", "$^" if chosen.no_peers else chosen.flex]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for text in process.stdout:
            line = json.loads(text)
            matched += 1
            recorder.begin(f"first call after {line['row']}: {line['contender']}")
            recorder.emit(**line)
            recorder.say(f"{line['row']:46s} {line['contender']} {line['variant']}: {line.get('note') or format(line['first_seconds'] * 1e3, '.0f') + ' ms'}")
            if time.time() > recorder.deadline:
                process.kill()
                process.wait()
                raise OutOfTime
        if process.wait() != 0:
            raise SystemExit("first_calls.py failed")
    return matched


def first(recorder, here, only):
    """In a process of its own, where nothing is loaded yet."""
    matched = 0
    process = subprocess.Popen([sys.executable, os.path.join(here, "loads.py")], stdout=subprocess.PIPE, text=True, env=dict(os.environ, CUDA_CACHE_DISABLE="1", FUSEDATTENTION_CUDA_KERNELS=""))
    for text in process.stdout:
        line = json.loads(text)
        recorder.begin(f"loading after {line['row']}")
        if only.search(line["row"]):
            matched += 1
            recorder.emit(**line)
            recorder.say(f"{line['row']:34s} {line['variant']:6s} {line.get('note') or format(line['load_seconds'] * 1e3, '.0f') + ' ms'}")
    if process.wait() != 0:
        raise SystemExit("loads.py failed")
    return matched


if __name__ == "__main__":
    sys.exit(main())
