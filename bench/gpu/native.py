"""FusedAttention's CUDA backend, which C# has compiled to a C library, on tensors of PyTorch. The structures are those of NativeCall.cs: every field takes 8 bytes."""
import ctypes as C
import os

DENSE, PACKED, PAGED = 0, 1, 2
FORMS = {"default": 0, "mma": 1, "wgmma": 2}
FLOAT16, BFLOAT16, FLOAT32, BOOLEAN, INT8, FLOAT8_E4M3 = range(6)
MOST_DIMENSIONS = 4
MOST_TEXT = 1 << 16


class NativeTensor(C.Structure):
    _fields_ = [
        ("address", C.c_void_p), ("element_type", C.c_int64), ("rank", C.c_int64),
        ("lengths", C.c_int64 * MOST_DIMENSIONS), ("strides", C.c_int64 * MOST_DIMENSIONS)]


class NativeFunction(C.Structure):
    _fields_ = [("name", C.c_char_p), ("numbers", C.POINTER(C.c_float)), ("count", C.c_int64)]


class NativeCall(C.Structure):
    _fields_ = [
        ("size", C.c_int64), ("kind", C.c_int64),
        ("query", NativeTensor), ("key", NativeTensor), ("value", NativeTensor), ("output", NativeTensor),
        ("mask", NativeTensor), ("bias", NativeTensor), ("log_sum_exp", NativeTensor), ("key_scale", NativeTensor), ("value_scale", NativeTensor),
        ("sequences", C.c_int64), ("cumulative_query_lengths", C.POINTER(C.c_int32)), ("key_lengths", C.POINTER(C.c_int32)),
        ("block_tables", C.POINTER(C.c_int32)), ("table_columns", C.c_int64),
        ("is_causal", C.c_int64), ("window_left", C.c_int64), ("window_right", C.c_int64), ("scale", C.c_double), ("soft_cap", C.c_double),
        ("alibi_slopes", C.POINTER(C.c_float)), ("sink_logits", C.POINTER(C.c_float)),
        ("score_function", NativeFunction), ("mask_function", NativeFunction), ("form", C.c_int64), ("stream", C.c_void_p)]


class FusedAttentionError(Exception):
    pass


def _numbers(kind, values):
    return None if values is None else (kind * len(values))(*values)


def _element_type(tensor):
    name = str(tensor.dtype).rpartition(".")[2]
    return {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": FLOAT32, "bool": BOOLEAN, "int8": INT8, "float8_e4m3fn": FLOAT8_E4M3}[name]


def describe_tensor(tensor):
    """A tensor with dtype, data_ptr(), shape and stride(), as the structure; None as none."""
    native = NativeTensor()
    if tensor is None:
        return native
    native.address, native.element_type, native.rank = tensor.data_ptr(), _element_type(tensor), len(tensor.shape)
    for i, (length, stride) in enumerate(zip(tensor.shape, tensor.stride())):
        native.lengths[i], native.strides[i] = length, stride
    return native


def describe_call(query, key, value, output, kind=DENSE, mask=None, bias=None, log_sum_exp=None, key_scale=None, value_scale=None, cumulative_query_lengths=None, key_lengths=None, block_tables=None,
                  causal=False, window_left=-1, window_right=-1, scale=0.0, soft_cap=0.0, alibi_slopes=None, sink_logits=None, score_function=None, mask_function=None, form="default", stream=0):
    """The structure of a call. Tensors are token-major, [batch, token, head, dim] or [token, head, dim], whatever their strides. Numbers of the host are lists; block tables a list of rows; functions have a name and numbers."""
    call = NativeCall(size=C.sizeof(NativeCall), kind=kind, is_causal=causal, window_left=window_left, window_right=window_right, scale=scale, soft_cap=soft_cap, form=FORMS[form], stream=stream)
    for name, tensor in (("query", query), ("key", key), ("value", value), ("output", output), ("mask", mask), ("bias", bias), ("log_sum_exp", log_sum_exp), ("key_scale", key_scale), ("value_scale", value_scale)):
        setattr(call, name, describe_tensor(tensor))
    arrays = {
        "cumulative_query_lengths": _numbers(C.c_int32, cumulative_query_lengths),
        "key_lengths": _numbers(C.c_int32, key_lengths),
        "block_tables": _numbers(C.c_int32, [block for row in block_tables for block in row] if block_tables else None),
        "alibi_slopes": _numbers(C.c_float, alibi_slopes),
        "sink_logits": _numbers(C.c_float, sink_logits),
    }
    for name, array in arrays.items():
        if array is not None:
            setattr(call, name, C.cast(array, dict(NativeCall._fields_)[name]))
    for name, function in (("score_function", score_function), ("mask_function", mask_function)):
        if function is not None:
            arrays[name] = _numbers(C.c_float, function.numbers)
            setattr(call, name, NativeFunction(function.name.encode(), C.cast(arrays[name], C.POINTER(C.c_float)), len(function.numbers)))
    if cumulative_query_lengths:
        call.sequences = len(cumulative_query_lengths) - 1
    if block_tables:
        call.table_columns = len(block_tables[0])
    call.arrays = arrays  # the structure has addresses only
    return call


class Library:
    """The library; every failure is a FusedAttentionError with its words."""

    def __init__(self, path=None):
        self._library = C.CDLL(path or os.path.join(os.path.dirname(os.path.abspath(__file__)), "FusedAttention.Cuda.Comparison.so"))
        for name, result, arguments in (
                ("fa_call_size", C.c_int, []),
                ("fa_describe", C.c_int, [C.POINTER(NativeCall), C.c_char_p, C.c_int]),
                ("fa_open", C.c_int, [C.c_char_p, C.c_int]),
                ("fa_create", C.c_int64, [C.POINTER(NativeCall)]),
                ("fa_run", C.c_int, [C.c_int64]),
                ("fa_run_many", C.c_int, [C.POINTER(C.c_int64), C.c_int, C.c_int, C.POINTER(C.c_double)]),
                ("fa_explain", C.c_int, [C.c_int64, C.c_char_p, C.c_int]),
                ("fa_load", C.c_int, [C.c_int64, C.POINTER(C.c_double)]),
                ("fa_release", None, [C.c_int64]),
                ("fa_last_error", C.c_int, [C.c_char_p, C.c_int])):
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        if self._library.fa_call_size() != C.sizeof(NativeCall):
            raise FusedAttentionError(f"A call takes {self._library.fa_call_size()} bytes in the library and {C.sizeof(NativeCall)} here.")

    def describe(self, call):
        return self._text(self._library.fa_describe, C.byref(call))

    def open(self):
        return self._text(self._library.fa_open)

    def create(self, call):
        return Call(self, self._checked(self._library.fa_create(C.byref(call))))

    def _text(self, function, *arguments):
        text = C.create_string_buffer(MOST_TEXT)
        self._checked(function(*arguments, text, MOST_TEXT))
        return text.value.decode()

    def _checked(self, result):
        if result < 0:
            text = C.create_string_buffer(MOST_TEXT)
            self._library.fa_last_error(text, MOST_TEXT)
            raise FusedAttentionError(text.value.decode())
        return result


class Call:
    """A call that is prepared; calling it queues it."""

    def __init__(self, library, handle):
        self._library, self.handle = library, handle
        self._run = library._library.fa_run

    def __call__(self):
        if self._run(self.handle) < 0:
            self._library._checked(-1)

    def explain(self):
        return self._library._text(self._library._library.fa_explain, self.handle)

    def load(self):
        """Seconds that writing and loading the kernels took; next to nothing if they are loaded."""
        seconds = C.c_double()
        self._library._checked(self._library._library.fa_load(self.handle, C.byref(seconds)))
        return seconds.value

    def release(self):
        self._library._library.fa_release(self.handle)


def run_many(library, calls, times):
    """Queues calls in turn, so many in all, from native code; returns the seconds that the host took."""
    handles, seconds = (C.c_int64 * len(calls))(*(call.handle for call in calls)), C.c_double()
    library._checked(library._library.fa_run_many(handles, len(calls), times, C.byref(seconds)))
    return seconds.value


def kernel_of(explanation):
    """What a plan takes: wgmma, mma, decode or plain."""
    lines = [line.split() for line in explanation.splitlines()]
    names = [words[0] for words in lines if words and words[0] in ("prefill", "decode", "plain")]
    if any(words and words[0] == "wgmma:" for words in lines):  # "mma.sync instead of wgmma: ..." says why not
        return "wgmma"
    return "mma" if "prefill" in names else names[0] if names else "none"


def refusal_of(explanation):
    return next((line.strip() for line in explanation.splitlines() if "instead of wgmma" in line), "the plan has no prefill by warpgroups")
