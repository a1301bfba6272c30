"""What a file holds and how accurate it is, from its metadata and index alone."""

from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import msgspec

from latq.pipeline.decode import File, Tensor
from latq.pipeline.metadata import KEPT_ALL, E8Codec, MatrixCodec, RawCodec, side_bytes
from latq.theory import bits_lost, product_error, product_limit, unbiased_noise


@dataclass(frozen=True)
class Parts:
    """Bytes of a tensor by purpose; ``container`` is frames, padding and index records."""

    indices: int
    scale_indices: int
    side_info: int
    container: int

    @property
    def total(self) -> int:
        return self.indices + self.scale_indices + self.side_info + self.container


def parts_of(tensor: Tensor) -> Parts:
    """Where the bytes of a tensor go, none for one that is the same as another. Codes that have no scale indices count
    as indices."""
    if tensor.same_as is not None:
        return Parts(0, 0, 0, 0)
    payload = tensor.records.payload_bytes
    container = tensor.stored_bytes - payload
    if isinstance(tensor.codec, RawCodec):
        return Parts(payload, 0, 0, container)
    shapes = tensor.tiling.shapes().items()
    side = sum(count * side_bytes(tensor.codec, vectors) for (vectors, _), count in shapes)
    if not isinstance(tensor.codec, E8Codec):
        return Parts(payload - side, 0, side, container)
    from latq.codecs import e8

    kept = tensor.codec.kept_of
    digits = sum(count * e8.digits_size(vectors * kept(length), tensor.codec.q) for (vectors, length), count in shapes)
    return Parts(digits, payload - digits - side, side, container)


@dataclass(frozen=True)
class Accuracy:
    """Measured by the encoder. ``decode_error`` is D, the mean squared error over the mean square; ``product_error``
    is e^2 against an independent partner coded alike, ``product_limit`` Gamma(R)."""

    decode_error: float
    bits_lost: float
    product_error: float
    product_limit: float


def accuracy_of(tensor: Tensor) -> Accuracy | None:
    """None for a lossless tensor."""
    entry = tensor.entry
    if not isinstance(tensor.codec, MatrixCodec):
        return None
    if entry.energy == 0:
        return Accuracy(0.0, float("-inf"), 0.0, product_limit(tensor.bits_per_entry))
    centred = max(entry.energy - entry.mean_energy, 0.0)
    noise = unbiased_noise(centred, entry.overlap, entry.error)
    distortion = entry.error / entry.energy
    return Accuracy(
        distortion,
        bits_lost(tensor.bits_per_entry, distortion),
        (centred / entry.energy) ** 2 * product_error(noise, noise, tensor.codec.kept / KEPT_ALL),
        product_limit(tensor.bits_per_entry),
    )


def describe(file: File) -> dict[str, Any]:
    """JSON-able description of a file; keys are only ever added. Entries count once where tensors are the same."""
    tensors = [_describe_tensor(tensor) for tensor in file.values()]
    entries = sum(tensor.size for tensor in file.values() if tensor.same_as is None)
    parts = [parts_of(tensor) for tensor in file.values()]
    by_part = {
        "indices": sum(p.indices for p in parts),
        "scale_indices": sum(p.scale_indices for p in parts),
        "side_info": sum(p.side_info for p in parts),
    }
    by_part["container"] = file.size - sum(by_part.values())
    return {
        "file": file.name,
        "format": [file.reader.preamble.major, file.reader.preamble.minor],
        "kind": file.metadata.kind,
        "bytes": file.size,
        "entries": entries,
        "bits_per_entry": 8 * file.size / entries if entries else None,
        "bytes_by_part": by_part,
        "tensors": tensors,
    }


def _describe_tensor(tensor: Tensor) -> dict[str, Any]:
    accuracy = accuracy_of(tensor)
    described = None
    if accuracy is not None:
        described = asdict(accuracy)
        if accuracy.decode_error == 0:
            described["bits_lost"] = None
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.entry.dtype,
        "axis": tensor.axis,
        "entries": tensor.size,
        "codec": msgspec.to_builtins(tensor.codec),
        "label": tensor.codec.label,
        "chunks": len(tensor.records),
        "bytes": 0 if tensor.same_as is not None else tensor.stored_bytes,
        "bits_per_entry": 0.0 if tensor.same_as is not None else tensor.bits_per_entry,
        "bytes_by_part": asdict(parts_of(tensor)),
        "accuracy": described,
        "outputs": _outputs(tensor),
        "same_as": tensor.same_as,
    }


def _outputs(tensor: Tensor) -> dict[str, Any] | None:
    """Of the products with the inputs that a tensor was calibrated for."""
    entry = tensor.entry
    if not entry.output_energy:
        return None
    return {"relative_error": sqrt(entry.output_error / entry.output_energy), "bits_lost": entry.output_bits_lost}
