"""What the fuzzers start from: ``python tests/fuzz/corpus.py FOLDER`` fills it from the test vectors.

``FOLDER/files`` are whole files, for atheris_reader.py; ``FOLDER/native`` the sections of their chunks and
``FOLDER/models.bin`` the tables of their codecs, for native.cpp.
"""

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from mutate import VECTORS

import latq
from latq.coding import rans
from latq.kernels import packed_model
from latq.kernels.points import PointModel
from latq.pipeline.decode import Tensor
from latq.pipeline.metadata import HEADER, DensityCodec, TrellisCodec, side_bytes

POINTS, PATHS = 0, 1


class _Recorder:
    """In the place of the native module: what a model is made from."""

    @staticmethod
    def point_model(*tables: np.ndarray) -> tuple[np.ndarray, ...]:
        return tables


def model_bytes(model: PointModel) -> bytes:
    """As ``Model`` of native.cpp reads them."""
    native, packed_model._core = packed_model._core, _Recorder  # type: ignore[assignment,misc]
    try:
        tables: Any = packed_model._pack(model)
    finally:
        packed_model._core = native
    sizes = struct.pack("<II", len(tables[1]), len(tables[4]))
    return sizes + b"".join(np.ascontiguousarray(table).tobytes() for table in tables)


def inputs(tensor: Tensor, model: int) -> list[bytes]:
    """One for each chunk and instruction set."""
    codec = tensor.codec
    assert isinstance(codec, DensityCodec)
    found = []
    for record in tensor.records:
        payload = tensor._file.reader.payload(record)
        tile = tensor.tiling.tile(record.chunk)
        _, _, named, first = HEADER.unpack_from(payload)
        body = payload[side_bytes(codec, tile.vectors) + named :]
        blocks = -(-tile.vectors * codec.kept_of(tile.length) // 8)
        lanes = rans.lanes_for(8 * blocks).bit_length() - 1
        paths = isinstance(codec, TrellisCodec)
        checks = codec.checks if isinstance(codec, TrellisCodec) else (0, 0)
        for isa in range(3):
            head = PATHS if paths else POINTS, isa, model, lanes, blocks - 1, first, 1, *checks, 0, 0
            found.append(struct.pack("<BBBBHHHHHBB", *head) + body)
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "files").mkdir(parents=True, exist_ok=True)
    (folder / "native").mkdir(exist_ok=True)
    models: list[bytes] = []
    for path in sorted(VECTORS.glob("good-*.latq")):
        (folder / "files" / path.name).write_bytes(path.read_bytes())
        with latq.open(path) as file:
            for tensor in file.values():
                if isinstance(tensor.codec, DensityCodec):
                    models.append(model_bytes(tensor.codec.density.tables))
                    for number, data in enumerate(inputs(tensor, len(models) - 1)):
                        (folder / "native" / f"{path.stem}-{number}").write_bytes(data)
    (folder / "models.bin").write_bytes(b"".join(models))


if __name__ == "__main__":
    main()
