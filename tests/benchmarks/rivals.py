"""The compressors that latq is compared with, as coders of float32 matrices whose rows are vectors.

A coder looks at an array once and gives a function of the level; that one gives the stored bytes and a function which
decodes them into a new array. Both functions do what a user of the library would have to do, and nothing else: they are
timed. The libraries come with ``pip install '.[bench]'``, but for bitsandbytes, which wants PyTorch.
"""

import ctypes
import importlib
import importlib.metadata
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from cases import energy, rms

from latq.transforms.rotation import rotate, unrotate

Code = Callable[[float], tuple[int, Callable[[], np.ndarray]]]
Coder = Callable[[np.ndarray], Code]

SLACK = 0.002  # bits that a tuned peer may land above: the header of a fixed-rate stream


class Unreachable(Exception):
    """A coder cannot meet the rate."""


@dataclass(frozen=True)
class Peer:
    """``coders`` by mode. A tuned peer takes levels in ``levels``, and its size grows with the level."""

    name: str
    coders: dict[str, Coder]
    levels: tuple[float, float] | None = None
    field: bool = False  # made for grids of samples


def fit(code, entries, levels, rate):
    """Level of the largest stored size of at most ``rate`` bits per entry, by bisection, and what it gave."""
    low, high = levels
    best = low, code(low)
    if 8 * best[1][0] / entries > rate:
        raise Unreachable("it cannot be that small")
    for _ in range(24):
        middle = (low + high) / 2
        outcome = code(middle)
        if 8 * outcome[0] / entries > rate:
            high = middle
        else:
            low, best = middle, max(best, (middle, outcome), key=lambda found: found[1][0])
    return best


# --- coders of fields


def sz3(pysz, algorithm, x):
    unit = rms(x)

    def code(level):
        config = pysz.szConfig()
        config.errorBoundMode, config.absErrorBound = pysz.szErrorBoundMode.ABS, unit * 2.0**-level
        if algorithm:
            config.cmprAlgo = getattr(pysz.szAlgorithm, algorithm)
        data = pysz.sz.compress(x, config)[0].copy()
        return data.size, lambda: pysz.sz.decompress(data, np.float32, x.shape)[0]

    return code


def zfp(zfpy, mode, x):
    unit = rms(x)

    def code(level):
        # A block of 4^d entries starts with 9 bits; zfpy 1.0.1 crashes when asked for a lower rate.
        tuning = {"rate": max(level, 9 / 4**x.ndim)} if mode == "rate" else {"tolerance": unit * 2.0 ** (6 - level)}
        data = zfpy.compress_numpy(x, **tuning)
        return len(data), lambda: zfpy.decompress_numpy(data)

    return code


def blosc2(library, shuffle, threads, x):
    """zstd behind a rearrangement of bytes or bits; the level is the bits of the mantissa that are kept.

    No bytedelta: with a third filter, blosc2 4.14 writes into its input (and on such data it gains nothing).
    """
    filters = [library.Filter.TRUNC_PREC, getattr(library.Filter, shuffle)]
    options = {"typesize": 4, "codec": library.Codec.ZSTD, "filters": filters, "nthreads": threads}

    def code(level):
        data = library.compress2(x, **options, filters_meta=[round(level), 0])
        return len(data), lambda: np.frombuffer(library.decompress2(data, nthreads=threads), np.float32).reshape(
            x.shape
        )

    return code


# --- quantizers


class GgmlTraits(ctypes.Structure):
    to_float = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    names = ("type_name", "block", "block_interleave", "size", "quantized", "to_float")
    types = (ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_size_t, ctypes.c_bool, to_float)
    _fields_ = list(zip(names, types, strict=True))


def load_ggml():
    """ggml's own C code, in the libggml-base.so of the pywhispercpp wheel, and its types by name."""
    files = importlib.metadata.files("pywhispercpp") or []
    ggml = ctypes.CDLL(str(next((f.locate() for f in files if f.name.startswith("libggml-base")), "libggml-base.so")))
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(GgmlTraits)
    traits = ((number, ggml.ggml_get_type_traits(number).contents) for number in range(40))
    return ggml, {(t.type_name or b"").decode().upper(): (number, t) for number, t in traits}


class GgmlMemory(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def load_ggml_products():
    """The part of ggml that multiplies, from the same wheel."""
    files = importlib.metadata.files("pywhispercpp") or []
    ggml = ctypes.CDLL(str(next((f.locate() for f in files if f.name.startswith("libggml-cpu")), "libggml-cpu.so")))
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    ggml.ggml_init.argtypes = [GgmlMemory]
    for name, types in (
        ("new_tensor_2d", [pointer, ctypes.c_int, count, count]),
        ("mul_mat", [pointer] * 3),
        ("get_data", [pointer]),
        ("new_graph", [pointer]),
        ("build_forward_expand", [pointer] * 2),
        ("graph_compute_with_ctx", [pointer, pointer, ctypes.c_int]),
        ("free", [pointer]),
    ):
        getattr(ggml, f"ggml_{name}").argtypes = types
    for name in ("init", "new_tensor_2d", "mul_mat", "get_data", "new_graph"):
        getattr(ggml, f"ggml_{name}").restype = pointer
    ggml.ggml_cpu_init()
    return ggml


def ggml_product(ggml, number, path, rows, b, threads):
    """(rows of b, rows of A), of A in the type of that number, read from a file, and b in float32."""
    n = b.shape[1]
    out = np.empty((len(b), rows), np.float32)
    # Beside the tensors, b as the type that A is multiplied by, and what else ggml keeps.
    memory = ggml.ggml_init(GgmlMemory(path.stat().st_size + 2 * b.nbytes + out.nbytes + (1 << 24), None, False))
    left = ggml.ggml_new_tensor_2d(memory, number, n, rows)
    with path.open("rb") as file:
        file.readinto((ctypes.c_uint8 * path.stat().st_size).from_address(ggml.ggml_get_data(left)))
    right = ggml.ggml_new_tensor_2d(memory, 0, n, len(b))
    ctypes.memmove(ggml.ggml_get_data(right), b.ctypes.data, b.nbytes)
    product, graph = ggml.ggml_mul_mat(memory, left, right), ggml.ggml_new_graph(memory)
    ggml.ggml_build_forward_expand(graph, product)
    ggml.ggml_graph_compute_with_ctx(memory, graph, threads)
    ctypes.memmove(out.ctypes.data, ggml.ggml_get_data(product), out.nbytes)
    ggml.ggml_free(memory)
    return out


def ggml_type(ggml, number, traits, x):
    """One long row, padded with zeros to whole blocks; no importance matrix."""
    flat = np.concatenate([x.reshape(-1), np.zeros(-x.size % traits.block, np.float32)])

    def code(level):
        data = np.empty(flat.size // traits.block * traits.size, np.uint8)
        ggml.ggml_quantize_chunk(number, flat.ctypes.data, data.ctypes.data, 0, 1, flat.size, None)

        def decode():
            out = np.empty(flat.size, np.float32)
            traits.to_float(data.ctypes.data, out.ctypes.data, out.size)
            return out[: x.size].reshape(x.shape)

        return data.size, decode

    return code


def turboquant(faiss, width, x):
    """The scalar quantizer of unit vectors in faiss; their rotation (the one of latq) and norms are the user's."""

    def code(level):
        norms = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30).astype(np.float32)
        turned = np.ascontiguousarray(rotate(x / norms, "hadamard", 0))
        quantizer = faiss.ScalarQuantizer(x.shape[1], getattr(faiss.ScalarQuantizer, f"QT_{width}bit_tqmse"))
        quantizer.train(turned)
        data = quantizer.compute_codes(turned)
        return data.nbytes + norms.nbytes, lambda: unrotate(quantizer.decode(data), "hadamard", 0) * norms

    return code


def rabitq(faiss, width, x):
    """Rotated alike. faiss decodes the sign bits only, so the vectors are read out of distances to points on the axes.

    They are scaled for unbiased distances: one more stored scalar makes them least squares.
    """
    m, n = x.shape

    def code(level):
        turned = np.ascontiguousarray(rotate(x, "hadamard", 0))
        index = faiss.IndexRaBitQ(n, faiss.METRIC_L2, width)
        index.train(turned)
        index.add(turned)

        def decode():
            side = np.float32(rms(x) * math.sqrt(n))
            points = np.vstack([np.zeros((1, n), np.float32), side * np.eye(n, dtype=np.float32)])
            found, which = index.search(points, m)
            distances = np.empty((m, n + 1), np.float32)
            distances[which, np.arange(n + 1)[:, None]] = found
            y = unrotate((distances[:, :1] - distances[:, 1:] + side * side) / (2 * side), "hadamard", 0)
            return y * np.float32(np.vdot(x, y) / energy(y))

        return index.code_size * m + 4 * n + 4, decode  # codes, the centre, the scalar

    return code


def nf4(torch, functional, double, x):
    """Blocks of 64; ``double`` quantizes their scales too."""
    options = {"blocksize": 64, "quant_type": "nf4", "compress_statistics": double}

    def code(level):
        data, state = functional.quantize_4bit(torch.from_numpy(x), **options)
        size = data.nbytes + state.absmax.nbytes + (state.state2.absmax.nbytes + 4 if double else 0)
        return size, lambda: functional.dequantize_4bit(data, state).numpy()

    return code


# The 16 levels of NF4 (Dettmers et al. 2023, appendix E).
NF4_LEVELS = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip


def nf4_numpy(x):
    """Where bitsandbytes is missing: the same numbers, at the speed of NumPy."""
    between = (NF4_LEVELS[1:] + NF4_LEVELS[:-1]) / 2
    pairs = np.stack(np.meshgrid(NF4_LEVELS, NF4_LEVELS, indexing="ij"), axis=-1).reshape(256, 2)

    def code(level):
        blocks = np.concatenate([x.reshape(-1), np.zeros(-x.size % 64, np.float32)]).reshape(-1, 64)
        scales = np.maximum(np.abs(blocks).max(1, keepdims=True), np.float32(1e-30))
        symbols = np.searchsorted(between, blocks / scales).astype(np.uint8)
        data = symbols[:, 0::2] << 4 | symbols[:, 1::2]
        return (
            data.nbytes + scales.nbytes,
            lambda: (pairs[data].reshape(-1, 64) * scales).reshape(-1)[: x.size].reshape(x.shape),
        )

    return code


# --- casts


def integers(width, x):
    """Every row over its largest entry; a float32 scale per row. Narrow ones are counted, not packed."""
    top = 2 ** (width - 1) - 1

    def code(level):
        scales = np.maximum(np.abs(x).max(1, keepdims=True), 1e-30) / np.float32(top)
        symbols = np.rint(x / scales).astype(np.int8)
        return -(-x.size * width // 8) + scales.nbytes, lambda: symbols * scales

    return code


def cast(dtype, x):
    """To another dtype and back; to its own, a copy."""

    def code(level):
        data = x.astype(dtype)
        return data.nbytes, lambda: data.astype(np.float32)

    return code


# --- all of them


FAMILIES = ("sz3", "zfp", "blosc2", "ggml", "turboquant", "rabitq", "nf4", "int", "cast")


def make_peers(family, threads=1) -> Iterator[Peer]:
    """Peers of one family, with ``threads`` where they have any; ImportError or OSError if the library is missing."""
    if family == "sz3":
        pysz = importlib.import_module("pysz")
        for label, algorithm in (("NOPRED", "NOPRED"), ("default", None)):
            yield Peer(f"SZ3 {label}", {"": partial(sz3, pysz, algorithm)}, (-4.0, 20.0), field=True)
    if family == "zfp":
        zfpy = importlib.import_module("zfpy")
        modes = {mode: partial(zfp, zfpy, mode) for mode in ("rate", "accuracy")}
        yield Peer("zfp", modes, (0.0, 24.0), field=True)
    if family == "blosc2":
        library = importlib.import_module("blosc2")
        modes = {shuffle.lower(): partial(blosc2, library, shuffle, threads) for shuffle in ("SHUFFLE", "BITSHUFFLE")}
        yield Peer("blosc2", modes, (1.0, 23.0), field=True)
    if family == "ggml":
        ggml, types = load_ggml()
        for label in ("Q2_K", "Q3_K", "IQ4_XS", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0"):
            yield Peer(f"ggml {label}", {"": partial(ggml_type, ggml, *types[label])})
    if family in ("turboquant", "rabitq"):
        faiss = importlib.import_module("faiss")
        faiss.omp_set_num_threads(threads)
        label, code = ("TurboQuant", turboquant) if family == "turboquant" else ("RaBitQ", rabitq)
        for width in (1, 2, 3, 4, 8):
            yield Peer(f"{label} {width}", {"": partial(code, faiss, width)})
    if family == "nf4":
        try:
            libraries = importlib.import_module("torch"), importlib.import_module("bitsandbytes.functional")
        except ImportError:
            yield Peer("NF4 in NumPy", {"": nf4_numpy})
            return
        libraries[0].set_num_threads(threads)
        for label, double in (("NF4", False), ("NF4 double", True)):
            yield Peer(label, {"": partial(nf4, *libraries, double)})
    if family == "int":
        for width in (4, 8):
            yield Peer(f"int{width} per row", {"": partial(integers, width)})
    if family == "cast":
        for label, dtype in (("float16", np.float16), ("float32, a copy", np.float32)):
            yield Peer(label, {"": partial(cast, dtype)})
