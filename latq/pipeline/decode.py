"""Files opened for reading: lazy tensors that decode only the chunks they are asked for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from latq.container import ByteSource, ChunkIndex, ChunkRecord, ContainerReader
from latq.dtypes import DTYPES
from latq.errors import CorruptError, InputError, LatqError
from latq.pipeline.metadata import (
    OWN,
    Codec,
    MatrixCodec,
    Metadata,
    RawCodec,
    TensorEntry,
    chunk_count,
    vectors_of_chunks,
)
from latq.pipeline.tiling import Tile, Tiling, matrix_shape

if TYPE_CHECKING:
    from latq.pipeline.chunk import RotatedChunk
    from latq.sources import WritableArray

Array = npt.NDArray[Any]
MAX_ZSTD_WINDOW = 1 << 23


class Tensor:
    """One tensor of an open file, read like a NumPy array: ``tensor[:, a:b]`` decodes only the chunks it touches.

    As a matrix it has ``m`` vectors of ``n`` entries along ``axis``, the contraction axis.
    """

    def __init__(self, file: "File", number: int) -> None:
        self._file = file
        self.entry: TensorEntry = file.metadata.tensors[number]
        self._number = number if self.entry.same_as == OWN else self.entry.same_as
        self.codec: Codec = file.metadata.codecs[self.entry.codec]
        self.n, self.m = matrix_shape(self.entry.shape, self.entry.axis)

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def file_name(self) -> str:
        """What messages call the file."""
        return self._file.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def ndim(self) -> int:
        return len(self.entry.shape)

    @property
    def size(self) -> int:
        return self.entry.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the original array, and of what decoding returns."""
        return DTYPES[self.entry.dtype]

    @property
    def axis(self) -> int:
        return self.entry.axis

    @property
    def same_as(self) -> str | None:
        """Name of the tensor whose chunks it shares, if it does."""
        return None if self.entry.same_as == OWN else self._file.metadata.tensors[self._number].name

    @property
    def records(self) -> ChunkIndex:
        """Index records of the tensor's chunks, in order; they may be those of another."""
        return self._file.reader.chunks_of(self._number)

    @property
    def chunk_count(self) -> int:
        """Chunks that hold its entries, whether they are there or not; they may be those of another."""
        return chunk_count(self._file.metadata.tensors[self._number], self.codec)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the chunks with their frames and index records."""
        return self.records.stored_bytes(self._file.reader.preamble.align_log2)

    @property
    def bits_per_entry(self) -> float:
        """Of the whole file where it is the only tensor."""
        size = self._file.size if len(self._file) == 1 else self.stored_bytes
        return 8 * size / self.size if self.size else 0.0

    @property
    def tiling(self) -> Tiling:
        """Chunks of an e8 tensor."""
        if not isinstance(self.codec, MatrixCodec):
            raise TypeError("raw tensors are not tiled")
        return Tiling.of(self.entry, self.codec)

    def __repr__(self) -> str:
        return f"<latq.Tensor {self.name!r} shape={self.shape} dtype={self.entry.dtype}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("decoding a tensor always makes a new array")
        decoded: Array = np.asarray(self.decode(), dtype=dtype)
        return decoded

    def __getitem__(self, key: Any) -> Array:
        """Basic indexing: integers, slices and ``...``."""
        bounds, finish = _basic_index(key, self.shape)
        found: Array = self._box(bounds)[finish]
        return found

    def decode(self, threads: int = 1) -> Array:
        """The whole tensor, least-squares reconstruction, in its original shape and dtype."""
        out = np.empty(self.shape, self.dtype)
        self.decode_into(out, threads=threads)
        return out

    def decode_into(self, target: "WritableArray", *, threads: int = 1) -> None:
        """Fill ``target``: same shape, any float dtype for a float tensor."""
        from latq.pipeline.restore import restore  # Here, because threads take long to import.

        restore([(self, target)], threads)

    def vectors(
        self, v0: int, v1: int, e0: int = 0, e1: int | None = None, dtype: np.dtype[Any] | None = None
    ) -> Array:
        """Entries [e0, e1) of vectors [v0, v1) as rows, in the tensor's dtype or another float one."""
        e1 = self.n if e1 is None else e1
        dtype = dtype or self.dtype
        if isinstance(self.codec, RawCodec):
            from latq.pipeline.rounding import narrowed  # Here, because describing a file does without the kernels.
            from latq.sources import MatrixView

            return narrowed(MatrixView(self, self.shape, self.axis).read(v0, v1, e0, e1), dtype)
        return self._rows(np.arange(v0, v1), e0, e1, dtype)

    def expecting(self, chunks: Iterable[int]) -> AbstractContextManager[None]:
        """A block that will decode these chunks, about in this order, each once: remote ones are fetched together."""
        found = (self._file.reader.records.find(self._number, chunk) for chunk in chunks)
        return self._file.reader.expecting(record for record in found if record)

    def rotated(self, chunk: int) -> "RotatedChunk":
        """Integers, scales and means of one e8 chunk."""
        return self._rotated([chunk], narrow=False)[0]

    def narrow(self, chunks: Sequence[int]) -> "list[RotatedChunk]":
        """The same of chunks of one group, decoded together, with integers of few bits: what the product works on."""
        try:
            return self._rotated(chunks, narrow=True)
        except CorruptError:
            return [self._rotated([chunk], narrow=True)[0] for chunk in chunks]  # Which it is.

    def _rotated(self, chunks: Sequence[int], narrow: bool) -> "list[RotatedChunk]":
        from latq.pipeline.chunk import decode_chunks  # Here, for the same reason.

        assert isinstance(self.codec, MatrixCodec)
        tiles = [self.tiling.tile(chunk) for chunk in chunks]
        records = [self._file.reader.record(self._number, chunk) for chunk in chunks]
        payloads = [
            (self._file.reader.payload(record), tile.vectors) for record, tile in zip(records, tiles, strict=True)
        ]
        try:
            return decode_chunks(payloads, self.codec, tiles[0].length, narrow)
        except CorruptError as error:
            raise CorruptError(f"{self._place(chunks[0], records[0])}: {error}") from None

    def matrix_chunk(self, chunk: int, dtype: np.dtype[Any], out: Array | None = None) -> tuple[Tile, Array]:
        """One chunk of a quantized tensor: its place, and its vectors as rows, in ``out`` if given."""
        from latq.pipeline.chunk import reconstruct

        assert isinstance(self.codec, MatrixCodec)
        return self.tiling.tile(chunk), reconstruct(self.rotated(chunk), self.codec, dtype, out)

    def _box(self, bounds: Sequence[tuple[int, int]]) -> Array:
        """The array over a box of the original shape."""
        shape = tuple(stop - start for start, stop in bounds)
        if 0 in shape or not self.shape:
            return self.decode() if not self.shape else np.empty(shape, self.dtype)
        if isinstance(self.codec, RawCodec):
            return self._raw_box(bounds)
        others = [b for i, b in enumerate(bounds) if i != self.axis]
        sizes = [stop - start for start, stop in others]
        grid = np.indices(sizes).reshape(len(sizes), prod(sizes))
        starts = np.array([start for start, _ in others]).reshape(-1, 1)
        dims = [s for i, s in enumerate(self.shape) if i != self.axis]
        flat = np.ravel_multi_index(tuple(grid + starts), dims) if others else np.zeros(1, np.intp)
        rows = self._rows(flat, *bounds[self.axis], self.dtype)
        return np.moveaxis(rows.reshape([*sizes, rows.shape[1]]), -1, self.axis)

    def _rows(self, vectors: npt.NDArray[np.intp], e0: int, e1: int, dtype: np.dtype[Any]) -> Array:
        """Chosen vectors (ascending), entries [e0, e1)."""
        tiling = self.tiling
        out = np.empty((vectors.size, e1 - e0), dtype)
        if out.size == 0:
            return out
        runs = vectors // tiling.chunk_vectors
        groups = range(e0 // tiling.group, -(-e1 // tiling.group))
        chunks = [group * tiling.runs + run for group in groups for run in np.unique(runs).tolist()]
        with self.expecting(chunks):
            for chunk in chunks:
                tile, block = self.matrix_chunk(chunk, dtype)
                mine = np.flatnonzero(runs == chunk % tiling.runs)
                start, stop = max(e0, tile.e0), min(e1, tile.e1)
                out[mine, start - e0 : stop - e0] = block[vectors[mine] - tile.v0, start - tile.e0 : stop - tile.e0]
        return out

    def _raw_box(self, bounds: Sequence[tuple[int, int]]) -> Array:
        index = tuple(slice(*b) for b in bounds)
        flat = np.ravel_multi_index([b[0] for b in bounds], self.shape)
        last = np.ravel_multi_index([b[1] - 1 for b in bounds], self.shape)
        # The rows of the leading axis that the box touches, read whole.
        row = self.size // self.shape[0]
        start, stop = int(flat) // row * row, (int(last) // row + 1) * row
        values = np.concatenate([piece for _, piece in self._raw_pieces(start, stop)])
        lead = bounds[0]
        return values.reshape(lead[1] - lead[0], *self.shape[1:])[(slice(None), *index[1:])]

    def _raw_pieces(self, start: int, stop: int) -> Iterator[tuple[int, Array]]:
        """(flat position, values) of the stored chunks over [start, stop), clipped to it."""
        assert isinstance(self.codec, RawCodec)
        step = self.codec.chunk_entries
        chunks = range(start // step, -(-stop // step) if stop > start else start // step)
        with self.expecting(chunks):
            for chunk in chunks:
                first, values = self.raw_chunk(chunk)
                low, high = max(start, first), min(stop, first + values.size)
                yield low, values[low - first : high - first]

    def raw_chunk(self, chunk: int) -> tuple[int, Array]:
        """(flat position, values) of one chunk of a lossless tensor, in C order."""
        assert isinstance(self.codec, RawCodec)
        start = chunk * self.codec.chunk_entries
        entries = min(self.codec.chunk_entries, self.size - start)
        record = self._file.reader.record(self._number, chunk)
        payload = self._file.reader.payload(record)
        size = entries * self.dtype.itemsize
        if self.codec.coding == "zstd":
            payload = _unzstd(payload, size, self._place(chunk, record))
        if len(payload) != size:
            raise CorruptError(f"{self._place(chunk, record)}: {len(payload)} bytes where {size} belong")
        values = np.frombuffer(payload, self.dtype.newbyteorder("<")).astype(self.dtype, copy=False)
        if self.dtype == np.bool_ and (values.view(np.uint8) > 1).any():
            raise CorruptError(f"{self._place(chunk, record)}: a boolean is neither 0 nor 1")
        return start, values

    def _place(self, chunk: int, record: ChunkRecord) -> str:
        return f"{self._file.name}: tensor {self.name!r} chunk {chunk} (at byte {record.offset})"


class File(Mapping[str, Tensor]):
    """An open file: a mapping from names to lazy tensors, in the order of the file. Use as a context manager."""

    tensor_type = Tensor

    def __init__(self, source: ByteSource) -> None:
        self.name = source.name
        try:
            self.reader = self._opened(source)
            self.metadata = Metadata.parse(self.reader.metadata, self.name)
            self._check_chunks()
        except LatqError:
            source.close()
            raise
        self._tensors = {entry.name: self.tensor_type(self, i) for i, entry in enumerate(self.metadata.tensors)}

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.reader.size

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            available = ", ".join(list(self._tensors)[:8])
            raise InputError(f"{self.name}: no tensor {name!r}; there are: {available or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def only(self) -> Tensor:
        """The single tensor of the file; InputError if there are more or none."""
        if len(self._tensors) != 1:
            names = ", ".join(list(self._tensors)[:8])
            raise InputError(f"{self.name}: holds {len(self)} tensors; name one of: {names or 'none'}")
        return next(iter(self._tensors.values()))

    def close(self) -> None:
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self, source: ByteSource) -> ContainerReader:
        return ContainerReader(source)

    def _check_chunks(self) -> None:
        """Every tensor owns exactly the chunks that its shape asks for, with the codec that it names."""
        expected = 0
        for number, entry in enumerate(self.metadata.tensors):
            codec = self.metadata.codecs[entry.codec]
            records = self.reader.chunks_of(number)
            if len(records) != chunk_count(entry, codec):
                raise CorruptError(
                    f"{self.name}: tensor {entry.name!r} has {len(records)} chunks, not {chunk_count(entry, codec)}"
                )
            expected += len(records)
            wrong = records.column("chunk") != np.arange(len(records))
            wrong |= records.column("codec") != codec.id
            wrong |= records.column("vectors") != vectors_of_chunks(entry, codec)
            if wrong.any():
                raise CorruptError(
                    f"{self.name}: tensor {entry.name!r}: chunk {int(wrong.argmax())} does not match its description"
                )
        if expected != len(self.reader.records):
            raise CorruptError(f"{self.name}: chunks that belong to no tensor")


def expecting_whole(tensors: Sequence[Tensor]) -> AbstractContextManager[None]:
    """A block that will decode all of these tensors of one file, about in this order."""
    if not tensors:
        return nullcontext()
    return tensors[0]._file.reader.expecting(record for tensor in tensors for record in tensor.records)


def _unzstd(payload: bytes, size: int, place: str) -> bytes:
    """Decompress exactly ``size`` bytes; the declared size is checked before anything is allocated."""
    import zstandard  # Here, because most files, and all that only describes them, do without.

    try:
        frame = zstandard.get_frame_parameters(payload)
        if frame.content_size != size or frame.window_size > MAX_ZSTD_WINDOW or frame.dict_id:
            raise CorruptError(f"{place}: the zstd frame is not one of its entries")
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"{place}: {error}") from None


def _basic_index(key: Any, shape: tuple[int, ...]) -> tuple[list[tuple[int, int]], tuple[Any, ...]]:
    """(bounds per axis to decode, index to apply to the decoded box) of a basic index."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if not all(p is Ellipsis or isinstance(p, slice | int | np.integer) for p in parts):
        raise TypeError("only integers, slices and ... can index a tensor; decode it for more")
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > len(shape):
        raise IndexError(f"too many indices for a tensor of shape {shape}")
    at = dots[0] if dots else len(parts)
    fill = [slice(None)] * (len(shape) - len(parts) + len(dots))
    parts = parts[:at] + fill + parts[at + len(dots) :]
    bounds: list[tuple[int, int]] = []
    finish: list[Any] = []
    for part, size in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            chosen = range(*part.indices(size))
            low, high = (min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1) if chosen else (0, 0)
            bounds.append((low, high))
            finish.append(_shifted(chosen, low))
        else:
            position = int(part) + size if part < 0 else int(part)
            if not 0 <= position < size:
                raise IndexError(f"index {part} is out of range for an axis of {size}")
            bounds.append((position, position + 1))
            finish.append(0)
    return bounds, tuple(finish)


def _shifted(chosen: range, low: int) -> slice:
    if not chosen:
        return slice(0, 0)
    stop = chosen[-1] - low + (1 if chosen.step > 0 else -1)
    return slice(chosen[0] - low, None if stop < 0 else stop, chosen.step)
