"""Score and mask functions of rows: what the library is told, which is a name and numbers (FunctionRegistry.cs has the other side), and the law of each, written apart from the library's. Needs no PyTorch."""
import math
from collections import namedtuple

# Where scores stand: numbers, or tensors that go together.
Place = namedtuple("Place", "batch head position key")

# What a law takes beside operators, over numbers: see measure.py for tensors.
Operations = namedtuple("Operations", "log tanh floor maximum minimum at")
OVER_NUMBERS = Operations(math.log, math.tanh, math.floor, max, min, lambda values, index: values[int(index)])


def slopes(heads):
    return [2.0 ** (-8.0 * (head + 1) / heads) for head in range(heads)]


class Function:
    """A function of calls of so many heads, sequences and tokens. `numbers` are what the library makes it from; `built_in` what the library's own options call it."""
    name, is_mask, is_causal = None, False, True

    def __init__(self, heads, batch, tokens):
        self.heads, self.batch, self.tokens, self.built_in = heads, batch, tokens, None
        self.prepare()

    def law(self):
        """As the law of a row has it; the call's own mask beside it."""
        return {"causal": self.is_causal, "mask_function" if self.is_mask else "score_function": self}


class Alibi(Function):
    name = "alibi"

    def prepare(self):
        self.slopes = self.numbers = slopes(self.heads)
        self.built_in = {"alibi_slopes": self.slopes}

    def score(self, by, score, at):
        return score - self.slopes[at.head] * abs(at.position - at.key)


class T5(Function):
    """The relative position bias of T5's decoders: 32 buckets, the farthest from 128 tokens on."""
    name, buckets, farthest = "t5", 32, 128

    def prepare(self):
        self.table = [[math.sin(1.3 * bucket + head) for head in range(self.heads)] for bucket in range(self.buckets)]
        self.numbers = [float(self.farthest)] + [number for row in self.table for number in row]

    def bucket(self, distance):
        exact = self.buckets // 2
        if distance < exact:
            return distance
        # Powers of the ratio are whole numbers, which a logarithm may miss.
        return min(self.buckets - 1, exact + int(math.log(distance / exact) / math.log(self.farthest / exact) * (self.buckets - exact) + 1e-9))

    def by_distance(self, head):
        return [self.table[self.bucket(distance)][head] for distance in range(self.farthest + 1)]

    def score(self, by, score, at):
        return score + by.at(self.by_distance(at.head), by.minimum(by.maximum(at.position - at.key, 0), self.farthest))


class HeadTemperature(Function):
    name = "head-temperature"

    def prepare(self):
        self.temperatures = self.numbers = [0.5 + head % 7 / 8 for head in range(self.heads)]

    def score(self, by, score, at):
        return score * self.temperatures[at.head]


class LogN(Function):
    name, trained = "log-n", 512

    def prepare(self):
        self.numbers = [float(self.trained)]

    def score(self, by, score, at):
        return score * by.maximum(by.log(at.position + 1.0) / math.log(self.trained), 1.0)


class ScalableSoftmax(Function):
    name = "scalable-softmax"

    def prepare(self):
        self.scales = [0.1 + head % 7 / 70 for head in range(self.heads)]
        self.numbers = self.scales + [float(self.tokens)] * self.batch

    def score(self, by, score, at):
        return score * (self.scales[at.head] * math.log(self.tokens))


class GridAlibi(Function):
    """Rows plus columns of a grid of 64 tokens a row."""
    name, width = "grid-alibi", 64

    def prepare(self):
        self.slopes = slopes(self.heads)
        self.numbers = [float(self.width)] + self.slopes

    def score(self, by, score, at):
        rows = at.position // self.width - at.key // self.width
        columns = at.position % self.width - at.key % self.width
        return score - self.slopes[at.head] * (abs(rows) + abs(columns))


class TanhCap(Function):
    name, cap = "tanh-cap", 2.0  # scores have a deviation of 1: it must show

    def prepare(self):
        self.numbers, self.built_in = [self.cap], {"soft_cap": self.cap}

    def score(self, by, score, at):
        return self.cap * by.tanh(score / self.cap)


class Document(Function):
    """Documents of unlike lengths one after the other; the second sequence has others than the first."""
    name, is_mask = "document", True
    cuts = ((0.05, 0.1, 0.3, 0.42, 0.5, 0.8, 0.97), (0.25, 0.5, 0.75))

    def prepare(self):
        self.documents = [[float(sum(token >= cut * self.tokens for cut in self.cuts[row % len(self.cuts)])) for token in range(self.tokens)] for row in range(self.batch)]
        self.numbers = [number for row in self.documents for number in row]

    def keep(self, by, at):
        documents = self.documents[at.batch]
        return by.at(documents, at.position) == by.at(documents, at.key)


class Prefix(Function):
    """A quarter of the first sequence is its prefix, an eighth of the second."""
    name, is_mask, is_causal = "prefix", True, False

    def prepare(self):
        self.lengths = self.numbers = [float(self.tokens // (4 if row % 2 == 0 else 8)) for row in range(self.batch)]

    def keep(self, by, at):
        return (at.key < self.lengths[at.batch]) | (at.key <= at.position)


class DilatedWindow(Function):
    name, is_mask, window, step = "dilated-window", True, 256, 4

    def prepare(self):
        self.numbers = [float(self.window), float(self.step), 0.0]

    def keep(self, by, at):
        back = at.position - at.key
        return (back >= 0) & (back < self.window * self.step) & (back % self.step == 0)


class GlobalLocal(Function):
    """Both sides, as the paper has it."""
    name, is_mask, is_causal, first, reach = "global-local", True, False, 16, 256

    def prepare(self):
        self.numbers = [float(self.first), float(self.reach)]

    def keep(self, by, at):
        return (at.key < self.first) | (abs(at.position - at.key) <= self.reach)


ALL = {kind.name: kind for kind in (Alibi, T5, HeadTemperature, LogN, ScalableSoftmax, GridAlibi, TanhCap, Document, Prefix, DilatedWindow, GlobalLocal)}
