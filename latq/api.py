"""The Python interface: files and arrays in, files and arrays out."""

import builtins
import io
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any, BinaryIO, Literal, overload

import numpy as np
import numpy.typing as npt

from latq.calibration.store import Calibration
from latq.codecs.vector_quantizer import VectorQuantizer
from latq.container import BytesSource, source_at
from latq.pipeline.decide import CodecName, EncodeOptions
from latq.pipeline.decode import File, Tensor
from latq.pipeline.encode import EncodeReport, encode_source, source_of
from latq.pipeline.metadata import RawCodec
from latq.pipeline.plan import Coding
from latq.pipeline.restore import DEFAULT_MEMORY as RESTORE_MEMORY
from latq.pipeline.restore import restore
from latq.products.estimator import DEFAULT_MEMORY, Estimate, ProductReport, multiply
from latq.products.operands import CompressedOperand, Operand, PlainOperand
from latq.sources import (
    MatrixView,
    SourceTensor,
    TensorSpec,
    WritableArray,
    atomic_output,
    atomic_path,
    files_of_sink,
    open_sink,
    open_source,
    output_kind_of,
)
from latq.transforms.rotation import Rotation
from latq.transforms.sizes import Precision

__all__ = [
    "File",
    "ProductReport",
    "Tensor",
    "VectorQuantizer",
    "decode",
    "encode",
    "export",
    "open",
    "operand_of",
    "product",
    "quantizer",
    "save",
]

Array = npt.NDArray[Any]
Path = str | PathLike[str]
Openable = Path | bytes | BinaryIO
Inputs = npt.ArrayLike | Mapping[str, Array]


def encode(
    array: npt.ArrayLike,
    bits: float = 4.0,
    *,
    axis: int = 0,
    codec: CodecName = "e8",
    coding: Coding | None = None,
    error: float | None = None,
    error_of: Literal["decode", "product"] = "decode",
    rotation: Rotation | Literal["auto"] = "auto",
    seed: int = 0,
    centre: bool | None = None,
    precision: Precision = "balanced",
    nonfinite: Literal["error", "raw"] = "error",
    effort: Literal["fast", "default", "best"] = "default",
    threads: int = 1,
    rho: float | None = None,
    pair: npt.ArrayLike | None = None,
    calibration: npt.ArrayLike | None = None,
    activation_bits: float | None = None,
) -> bytes:
    """Compress one array into a .latq file in memory.

    Parameters
    ----------
    array
        Any shape; float64, float32, float16 or bfloat16 to be quantized, anything else numeric is kept lossless.
    bits
        Bits per entry of the whole file, 0.25 to 12; the file lands at or a little under it. Arrays of a few kilobytes
        cannot carry the container at that rate and land above.
    axis
        Contraction axis: the one that a product sums over. Vectors run along it.
    codec
        "e8"; "trellis", which has less error at any rate and takes longer to encode; "scalar", which quantizes entry by
        entry for products of strongly correlated matrices; or "raw" to keep the array lossless.
    coding
        "fixed" has constant-length indices and decodes fastest, "entropy" has the best accuracy per bit and is the
        default, but for scalar; trellis has no other.
    error, error_of
        Instead of ``bits``, with entropy coding: the relative Frobenius error to meet with the smallest file, of
        decoding, or of the product with an independent matrix coded alike (over ||A||_F ||B||_F / sqrt(n)).
    rotation, seed
        Randomized Hadamard rotation of the vectors, or none; "auto" leaves it out for scalar, and where that saves more
        than 0.01 bit. Both sides of a product should share rotation and seed.
    centre
        Store and subtract the mean of every vector; None decides on the data.
    precision
        Of vectors of unequal size. "uniform": about the same error in every entry, the least error overall, but little
        of small vectors. "relative": about the same relative error in every vector. "balanced": uniform, but no vector
        gets more than about one bit per entry less than those of average size.
    nonfinite
        "error" refuses NaN and infinity, "raw" keeps such an array lossless.
    effort
        Of trellis: "fast" has 8 states, "default" 32, "best" 256, which lose 0.08, 0.06 and 0.04 bit per entry to the
        Shannon limit. Of fixed coding with e8: "fast" estimates errors instead of searching, at a loss of 0.02 to 0.05
        bit. Files decode as fast. Elsewhere there is nothing to spare, and it changes nothing.
    rho, pair
        Of scalar: what its levels are best for, a Gaussian partner whose entries have correlation ``rho`` (0 unless
        said), or this very matrix, (n, any number of vectors), entries along axis 0.
    calibration, activation_bits
        Of e8: inputs (any number, n) that the vectors will be multiplied by, or their second moments (n, n); errors are
        then small in these products, not in the entries. ``activation_bits`` per entry is what the inputs will have.

    Raises
    ------
    InputError
        The array cannot be stored (dtype, not finite, beyond float32).
    ParameterError
        An option is out of range, or ``bits`` leaves no room for the vectors' scales.
    """
    buffer = io.BytesIO()
    options = EncodeOptions(
        bits=bits, codec=codec, coding=coding, error=error, error_of=error_of, axis=axis, rotation=rotation,
        seed=seed, centre=centre, precision=precision, nonfinite=nonfinite, effort=effort, threads=threads,
        rho=rho, pair=_pair(pair), calibration=_calibration(calibration), activation_bits=activation_bits,
    )  # fmt: skip
    encode_source(source_of({"data": np.asarray(array)}), "array", buffer, options)
    return buffer.getvalue()


def save(
    path: Path,
    arrays: npt.ArrayLike | Mapping[str, Array] | Path,
    bits: float = 4.0,
    *,
    overwrite: bool = False,
    **options: Any,
) -> EncodeReport:
    """Compress one array, several by name, or those of a file or checkpoint folder, into a file.

    ``options`` are those of :func:`encode`, and of what has several tensors

    - ``bits_for``, pairs of a pattern on names and a rate, or "raw", that its tensors have instead of ``bits``; the
      last that matches counts;
    - ``allocate``: whether ``bits`` are those of the whole file, divided among its tensors so that the sum of their
      relative squared errors is least.

    The file appears whole or not at all. InputError if it exists and ``overwrite`` is false.
    """
    given = {"pair": _pair(options.get("pair")), "calibration": _calibration(options.get("calibration"))}
    parameters = EncodeOptions(bits=bits, **options | given)
    if isinstance(arrays, str | PathLike):
        where, source = fspath(arrays), open_source(arrays)
    else:
        named = arrays if isinstance(arrays, Mapping) else {"data": np.asarray(arrays)}
        where, source = fspath(path), source_of(named)
    with (
        source,
        atomic_output(fspath(path), force=overwrite, inputs=source.files) as temporary,
        builtins.open(temporary, "wb") as stream,
    ):
        return encode_source(source, where, stream, parameters)


def _calibration(inputs: Inputs | None) -> Calibration | None:
    """Inputs of one array, which has no name, or of several by name."""
    if inputs is None:
        return None
    return Calibration.of_arrays(inputs if isinstance(inputs, Mapping) else {"": np.asarray(inputs)})


def _pair(array: npt.ArrayLike | None) -> MatrixView | None:
    if array is None:
        return None
    tensor = SourceTensor.of("pair", np.asarray(array), "the pair")
    return MatrixView(tensor.array, tensor.shape, 0)


def open(source: Openable) -> File:
    """Open a .latq file (path, URL, bytes or binary file object): a mapping from names to lazy tensors.

    Only its end is read. URLs are those that fsspec knows. Raises InputError if it cannot be read, CorruptError,
    TruncatedError, UnsupportedError.
    """
    if isinstance(source, bytes):
        return File(BytesSource(source))
    if isinstance(source, str | PathLike):
        return File(source_at(source))
    return File(BytesSource(source.read(), getattr(source, "name", "<stream>")))


def decode(source: Openable, *, threads: int = 1, memory: int = RESTORE_MEMORY) -> Array | dict[str, Array]:
    """Decode a whole file: its array if it holds one, else a dict of arrays. Original shapes and dtypes.

    LimitError for a file whose chunks take more than ``memory`` bytes to decode, beside the arrays.
    """
    with open(source) as file:
        arrays = {name: np.empty(tensor.shape, tensor.dtype) for name, tensor in file.items()}
        restore([(file[name], array) for name, array in arrays.items()], threads, memory=memory)
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def export(
    source: Openable, path: Path, *, overwrite: bool = False, threads: int = 1, memory: int = RESTORE_MEMORY
) -> None:
    """Decode a whole file to .npy, .h5, .safetensors or .zarr, or to the folder of a checkpoint: a ``path`` that exists
    as one, or ends in a slash. Names, shapes, dtypes and what else the container held as they were.

    A folder gets the files of the checkpoint, its index included, and keeps others. The output appears whole or not at
    all. InputError if it exists and ``overwrite`` is false; ParameterError for an output that cannot hold the tensors,
    LimitError for chunks that take more than ``memory`` bytes to decode.
    """
    kind = output_kind_of(path)
    inputs = [fspath(source)] if isinstance(source, str | PathLike) else []
    with open(source) as file:
        specs = [TensorSpec(tensor.name, tensor.shape, tensor.entry.dtype) for tensor in file.values()]
        files = files_of_sink(path, kind, specs, file.metadata.extras)
        with (
            atomic_path(path, force=overwrite, inputs=inputs, files=files) as temporary,
            open_sink(temporary, kind, specs, file.metadata.extras) as sink,
        ):
            restore([(tensor, sink.target(name)) for name, tensor in file.items()], threads, memory=memory)


Factor = Tensor | File | Array | Path | bytes


@overload
def product(
    a: Factor, b: Factor, *, estimate: Estimate = ..., error_bars: WritableArray | None = ..., threads: int = ...,
    memory: int = ..., report: Literal[False] = ...,
) -> npt.NDArray[np.float32]: ...  # fmt: skip
@overload
def product(
    a: Factor, b: Factor, *, estimate: Estimate = ..., error_bars: WritableArray | None = ..., threads: int = ...,
    memory: int = ..., report: Literal[True],
) -> tuple[npt.NDArray[np.float32], ProductReport]: ...  # fmt: skip
def product(
    a: Factor, b: Factor, *, estimate: Estimate = "unbiased", error_bars: WritableArray | None = None, threads: int = 1,
    memory: int = DEFAULT_MEMORY, report: bool = False,
) -> npt.NDArray[np.float32] | tuple[npt.NDArray[np.float32], ProductReport]:  # fmt: skip
    """Estimate A^T B, shape (m_a, m_b), from compressed operands without decoding them in full.

    Parameters
    ----------
    a, b
        A tensor, a file with one tensor (open, path, URL or bytes), or a plain array with vectors along axis 0. Where
        both are the same tensor, its vectors' squared norms on the diagonal are what the file knows of them.
    estimate
        "unbiased" is right on average over rotations in every entry; "shrunk" multiplies it by the factor of least
        expected Frobenius error, which the files tell; "auto" does so where that error falls by a hundredth or more
        and no error bars are asked for.
    error_bars
        Array of shape (m_a, m_b) to be filled with the standard error of every entry, over random rotations; with a
        bound of the error where a side was encoded without a rotation.
    memory
        Bytes to work in, about, beside the result.
    report
        Also return the predicted error (Ordentlich & Polyanskiy 2024, section on the practical scheme: the error of a
        rotated quantizer is isotropic, so energies add).

    Raises
    ------
    ParameterError
        The lengths differ.
    """
    left, right = operand_of(a), operand_of(b)
    out = np.empty((left.m, right.m), np.float32)
    outcome = multiply(
        [(left, right)], out, estimate=estimate, error_bars=error_bars, threads=threads, memory=memory
    )  # fmt: skip
    return (out, outcome) if report else out


def operand_of(factor: Factor, where: str = "operand") -> Operand:
    """Either side of a product; ``where`` names it in messages."""
    if isinstance(factor, str | PathLike | bytes):
        factor = open(factor)
    if isinstance(factor, File):
        factor = factor.only()
    if isinstance(factor, Tensor):
        if isinstance(factor.codec, RawCodec):
            return PlainOperand(MatrixView(factor, factor.shape, factor.axis), where)
        return CompressedOperand(factor)
    array = np.asarray(factor)
    return PlainOperand(MatrixView(array, array.shape, 0), where)


def quantizer(bits: float, n: int, *, seed: int = 0) -> VectorQuantizer:
    """A quantizer of vectors in memory, one by one, all in as many bytes: for activations and key-value caches.

    ``q.encode(x)`` takes float arrays (vectors, n) and returns codes, bytes (vectors, q.bytes_per_vector);
    ``q.decode(codes)`` brings the vectors back; ``q.dot(a, b)`` is the inner products of coded vectors, from their
    integers. Nothing is fitted to data: vectors are rotated, divided by their own size and quantized by the codebooks
    of fixed coding. ``q.bits`` is what an entry takes, all counted: at most ``bits``.

    ParameterError if so few bits leave no codebook for vectors of ``n`` entries.
    """
    return VectorQuantizer(bits, n, seed)
