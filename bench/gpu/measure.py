"""How a row is measured: contenders are checked against double precision, then timed in turns. One JSON line a contender, written at once."""
import json
import math
import os
import sys
import threading
import time
from contextlib import nullcontext

import torch

from functions import Operations, Place
from native import FusedAttentionError

try:
    import pynvml
    pynvml.nvmlInit()
    _card = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
except Exception:  # clocks and watts are told where they can be read
    _card = None

IDLE_SECONDS = 0.006  # between single launches: the clock stays at its maximum
MAX_CLOCK = 1.98e9    # of an H100, for waits in clocks; another card waits a little longer or shorter
MOST_SILENCE = 150    # seconds without progress until a run is taken for one that hangs; compiling a row of FlexAttention takes some
QUEUE_CALLS = 100     # calls that are queued behind one wait; the driver takes about 1,000 launches until it blocks
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.2e-2, torch.float32: 1e-5}


class OutOfTime(Exception):
    pass


class Skipped(Exception):
    """A contender that says itself that it has no part in a row."""


class Recorder:
    """JSON lines in a file, and in memory for the tables at the end."""

    def __init__(self, path, seconds):
        self.file, self.lines, self.start, self.deadline = open(path, "a"), [], time.time(), time.time() + seconds
        self.doing, self.since = "nothing", time.time()

    def begin(self, doing):
        self.doing, self.since = doing, time.time()

    def watch(self, at_end):
        """Ends a process that hangs, as a kernel whose warps wait for each other does for ever."""
        def look():
            while time.time() - self.since < MOST_SILENCE:
                time.sleep(1)
            print(f"HANGS: {self.doing}, for {MOST_SILENCE} s", file=sys.stderr, flush=True)
            self.emit(suite="failure", row=self.doing, contender="", variant="", status="wrong", note="hangs")
            at_end()
            os._exit(4)
        threading.Thread(target=look, daemon=True).start()

    def emit(self, **line):
        self.lines.append(line)
        # JSON has no infinity, which is the error of an output that is not finite.
        self.file.write(json.dumps({name: "Infinity" if isinstance(value, float) and not math.isfinite(value) else value for name, value in line.items()}) + "\n")
        self.file.flush()

    def say(self, text):
        print(f"[{time.time() - self.start:6.1f}] {text}", flush=True)

    def check_time(self, needed=0.0):
        if time.time() + needed > self.deadline:
            raise OutOfTime


class Sequence:
    """Tensors of one sequence, [token, head, dim], and which part of an output is its own."""

    def __init__(self, query, key, value, rows_of, mask=None, bias=None, batch=0):
        self.query, self.key, self.value, self.rows_of, self.mask, self.bias, self.batch = query, key, value, rows_of, mask, bias, batch


def allowed_pairs(queries, keys, law):
    """How many pairs of a query and a key the positions allow."""
    position = torch.arange(queries, dtype=torch.int64) + (keys - queries)
    last = position if law.get("causal") else torch.full_like(position, keys - 1)
    if law.get("window_right", -1) >= 0:
        last = torch.minimum(last, position + law["window_right"])
    first = position - law["window_left"] if law.get("window_left", -1) >= 0 else torch.zeros_like(position)
    return int((last.clamp(max=keys - 1) - first.clamp(min=0) + 1).clamp(min=0).sum())


def expected(sequence, head, rows, law):
    """Rows of attention in double precision, as the library's law has it: scale, soft cap, bias, ALiBi, score function, masks, sink."""
    query, key, value = sequence.query, sequence.key, sequence.value
    shared = head // (query.shape[1] // key.shape[1])
    scores = query[rows, head].double() @ key[:, shared].double().T * (law.get("scale") or query.shape[-1] ** -0.5)
    position = (rows + key.shape[0] - query.shape[0])[:, None]
    keys = torch.arange(key.shape[0], device=rows.device)[None]
    if law.get("soft_cap"):
        scores = law["soft_cap"] * torch.tanh(scores / law["soft_cap"])
    if sequence.bias is not None:
        scores = scores + _looked_up(sequence.bias, head, rows).double()
    if law.get("alibi_slopes"):
        scores = scores - law["alibi_slopes"][head] * (position - keys).abs()
    place = Place(sequence.batch, head, position, keys)
    if law.get("score_function"):
        scores = law["score_function"].score(OVER_TENSORS, scores, place)
    allowed = torch.ones_like(scores, dtype=torch.bool)
    if law.get("causal"):
        allowed &= keys <= position
    if law.get("window_left", -1) >= 0:
        allowed &= keys >= position - law["window_left"]
    if law.get("window_right", -1) >= 0:
        allowed &= keys <= position + law["window_right"]
    if law.get("mask_function"):
        allowed &= law["mask_function"].keep(OVER_TENSORS, place)
    if sequence.mask is not None:
        allowed &= _looked_up(sequence.mask, head, rows)
    scores = scores.masked_fill(~allowed, float("-inf"))
    if law.get("sink_logits"):
        scores = torch.cat([scores, torch.full_like(scores[:, :1], law["sink_logits"][head])], 1)
    weights = torch.nan_to_num(torch.softmax(scores, -1), 0.0)
    return weights[:, :key.shape[0]] @ value[:, shared].double()


def _at(values, index):
    return torch.tensor(values, dtype=torch.float64, device=index.device)[index]


# Of a law of functions: positions are whole numbers, and what is computed of them is in double precision.
OVER_TENSORS = Operations(
    lambda x: torch.log(x.double()), torch.tanh, torch.floor, lambda x, least: x.clamp(min=least), lambda x, most: x.clamp(max=most), _at)


def _looked_up(tensor, head, rows):
    """[heads or 1, queries or 1, keys] at a head and rows."""
    plane = tensor[head if tensor.shape[0] > 1 else 0]
    return plane[rows] if plane.shape[0] > 1 else plane


def error_of(output, sequences, law):
    """The largest relative error over rows at beginnings, middles and ends of the first and the last head of some sequences; infinite if anything of the output is no number."""
    if not bool(torch.isfinite(output).all()):
        return float("inf")
    worst = 0.0
    for sequence in sequences:
        queries = sequence.query.shape[0]
        ends = torch.cat([torch.arange(start, start + 32) for start in (0, queries // 2, queries - 32)]) if queries > 128 else torch.arange(queries)
        rows = torch.cat([ends, torch.randint(queries, (32,))]).to(output.device)
        for head in sorted({0, sequence.query.shape[1] - 1}):
            right, got = expected(sequence, head, rows, law), sequence.rows_of(output)[rows, head].double()
            size = right.norm().item() or 1.0
            # One wrong element among right ones shows in the second measure.
            worst = max(worst, (got - right).norm().item() / size, (got - right).abs().max().item() / (right.abs().max().item() or 1.0) / 10)
    return worst


class Contender:
    """Something that computes a row: ours in one form, or a peer in one layout. `make` returns what queues a call and returns its output, and what makes the output token-major."""

    def __init__(self, name, variant, make, context=nullcontext, plain=None):
        # A contender that computes the row without its feature has sequences and a law of its own.
        self.name, self.variant, self.make, self.context, self.plain = name, variant, make, context, plain
        self.note, self.error, self.first_seconds, self.burst, self.busy, self.status = None, None, None, [], [], "timed"
        self.extra = {}

    @property
    def label(self):
        return f"{self.name} {self.variant}".strip()

    def prepare(self, sequences, law):
        """Makes and checks it; returns whether it is to be timed."""
        try:
            with self.context():
                self.run, result = self.make(self)
                torch.cuda.synchronize()
                start = time.perf_counter()
                raw = self.run()
                torch.cuda.synchronize()
                self.first_seconds = time.perf_counter() - start
            output = result(raw)
            self.error = error_of(output, *(self.plain or (sequences, law)))
            self.output = output.clone()
            if not self.error < TOLERANCE[output.dtype]:
                self.status, self.note = "wrong", f"relative error {self.error:.1e}"
        except Skipped as reason:
            self.status, self.note = "skipped", str(reason)
        except torch.OutOfMemoryError:
            self.status, self.note = "refused", "out of memory"
        except Exception as failure:
            # What a peer does not offer is no fault of this program's; ours is shown as loudly as a wrong result.
            self.status, self.note = ("wrong" if self.name.startswith("ours") else "refused"), str(failure).strip()[:300] or type(failure).__name__
        return self.status == "timed"

    def calibrate(self):
        """How long the host takes for a call, at most."""
        with self.context():
            for _ in range(2):
                self.run()
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(3):
                self.run()
            self.host = (time.perf_counter() - start) / 3
            torch.cuda.synchronize()

    def launch_once(self, events):
        """Microseconds of one call, queued behind a wait and one more call, so that no time of the host is in it."""
        time.sleep(IDLE_SECONDS)
        with self.context():
            wait(2 * self.host + 60e-6)
            self.run()
            events[0].record()
            self.run()
            events[1].record()
        torch.cuda.synchronize()
        self.burst.append(events[0].elapsed_time(events[1]) * 1e3)

    def keep_busy(self, events, warm=0.15, seconds=0.15):
        """Adds microseconds a call when the card has been busy for a while: the clock is what its power allows."""
        each = min(self.burst) * 1e-6
        with self.context():
            if each > 1.5 * self.host:
                start = time.perf_counter()
                for _ in range(int(warm / each) + 1):
                    self.run()
                calls = int(seconds / each) + 1
                events[0].record()
                for _ in range(calls):
                    self.run()
                events[1].record()
                self._look(start + warm + seconds / 2)
                torch.cuda.synchronize()
                self.busy.append(events[0].elapsed_time(events[1]) * 1e3 / calls)
                return
            # The host cannot keep the card busy: groups of calls, each behind a wait that hides it.
            end, total, calls = time.perf_counter() + warm / 2, 0.0, 0
            while calls == 0 or time.perf_counter() < end:
                wait(QUEUE_CALLS * self.host * 1.2)
                events[0].record()
                for _ in range(QUEUE_CALLS):
                    self.run()
                events[1].record()
                torch.cuda.synchronize()
                total, calls = total + events[0].elapsed_time(events[1]) * 1e3, calls + QUEUE_CALLS
            self.busy.append(total / calls)
            self.extra["grouped"] = QUEUE_CALLS

    @property
    def sustained(self):
        """Microseconds a call of a card that is busy, the mean of all times; None if it was not kept busy."""
        return sum(self.busy) / len(self.busy) if self.busy else None

    def _look(self, when):
        if _card is None:
            return
        time.sleep(max(0.0, when - time.perf_counter()))
        try:
            self.extra["sustained_mhz"], self.extra["sustained_watts"] = pynvml.nvmlDeviceGetClockInfo(_card, 1), pynvml.nvmlDeviceGetPowerUsage(_card) / 1e3
        except pynvml.NVMLError:
            pass


def wait(seconds):
    """Has the card do nothing for a while."""
    torch.cuda._sleep(int(seconds * MAX_CLOCK))


def measure(recorder, row, contenders, sequences, law, operations=None, key_value_bytes=None, launches=14, sustain=True):
    """Checks, times and records one row. `row` names it and has its sizes."""
    try:
        _time(recorder, row, contenders, sequences, law, launches, sustain)
    except (RuntimeError, FusedAttentionError) as failure:
        # After an illegal access the driver fails everything in the context.
        for contender in contenders:
            contender.status = "wrong" if contender.name.startswith("ours") else "refused"
            contender.note = contender.note or f"the card failed: {str(failure).strip()[:300]}"
        raise
    finally:
        _record(recorder, row, contenders, operations, key_value_bytes)


def _time(recorder, row, contenders, sequences, law, launches, sustain):
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    good = []
    for contender in contenders:
        recorder.begin(f"{row['row']}: {contender.label}")
        if contender.prepare(sequences, law):
            good.append(contender)

    # Places that no reference looked at: all who compute the same agree on everything.
    for contender in good[1:]:
        first = next((other for other in good if (other.plain is None) == (contender.plain is None)), contender)
        difference = ((contender.output.float() - first.output.float()).norm() / (first.output.float().norm() + 1e-9)).item()
        if not difference < 2 * TOLERANCE[contender.output.dtype]:
            contender.status, contender.note = "wrong", f"differs from {first.label} by {difference:.1e}"
    good = [contender for contender in good if contender.status == "timed"]
    for contender in good:
        contender.output = None
        contender.calibrate()
    for launch in range(launches):
        for contender in good if launch % 2 == 0 else good[::-1]:
            contender.launch_once(events)

    if not sustain:
        return
    # Of a peer's layouts only the better one goes on. A card that has rested is up to 15 % faster than one that has been kept busy: so it is kept busy ahead, and a second round goes the other way.
    busy = [contender for contender in good if contender.name.startswith("ours") or min((other for other in good if other.name == contender.name), key=lambda other: min(other.burst)) is contender]
    for contender in busy[:1] + busy + busy[::-1]:
        recorder.begin(f"{row['row']}: {contender.label}, sustained")
        contender.keep_busy(events)
    for contender in busy[:1]:
        del contender.busy[0]


def _record(recorder, row, contenders, operations, key_value_bytes):
    for contender in contenders:
        line = dict(row, contender=contender.name, variant=contender.variant, status=contender.status)
        if contender.note:
            line["note"] = contender.note
        if contender.error is not None:
            line["error"] = contender.error
        if contender.plain:
            line["baseline"] = True
        if contender.first_seconds is not None:
            line["first_seconds"] = round(contender.first_seconds, 4)
        if contender.status == "timed" and contender.burst:
            best, middle = min(contender.burst), sorted(contender.burst)[len(contender.burst) // 2]
            line.update(burst_us=best, burst_median_us=middle, launches=len(contender.burst), host_us=round(contender.host * 1e6, 1))
            for kind, time_us in (("burst", best), ("sustained", contender.sustained)):
                if time_us is None:
                    continue
                line[f"{kind}_us"] = time_us
                if operations:
                    line[f"{kind}_tflops"] = operations / time_us / 1e6
                if key_value_bytes:
                    line[f"{kind}_tbps"] = key_value_bytes / time_us / 1e6
        line.update(contender.extra)
        recorder.emit(**line)
    recorder.say(summary(row, contenders, operations, key_value_bytes))
    for contender in contenders:
        if hasattr(contender, "close"):
            contender.close()
        contender.run = contender.output = None
    for contender in contenders:
        if contender.status == "wrong":
            print(f"         WRONG: {row['row']}: {contender.label}: {contender.note}", file=sys.stderr, flush=True)


def summary(row, contenders, operations, key_value_bytes):
    parts = []
    for contender in contenders:
        if contender.status == "timed" and contender.burst:
            rates = [contender.sustained, min(contender.burst)]
            unit = (lambda us: f"{operations / us / 1e6:.0f}") if operations else (lambda us: f"{us:.1f}us")
            parts.append(f"{contender.label} {'/'.join('-' if us is None else unit(us) for us in rates[::-1])}")
        elif contender.status != "skipped":
            parts.append(f"{contender.label} {contender.status}")
    return f"{row['row']:34s} " + "; ".join(parts)
