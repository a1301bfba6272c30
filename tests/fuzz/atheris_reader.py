"""Coverage-guided fuzzing of the reader: ``python tests/fuzz/atheris_reader.py FOLDER [OPTION...]``.

FOLDER holds files to start from (corpus.py); the options are those of libFuzzer. Needs ``pip install atheris``.
"""

import gc
import sys
from pathlib import Path
from random import Random
from types import FunctionType
from zlib import crc32

import atheris

sys.path.insert(0, str(Path(__file__).parent))

from mutate import VECTORS, forged, parts_of_file
from sweep import cap_memory, verified

from latq.errors import LatqError


def read(data: bytes) -> None:
    """As it is, and with sound checksums."""
    verified(data)


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """A sound file is changed by its structure, another byte by byte."""
    random = Random(seed ^ crc32(data))
    try:
        changed = forged(parts_of_file(data), random) if random.random() < 0.8 else atheris.Mutate(data, most)
    except (LatqError, ValueError):
        changed = atheris.Mutate(data, most)
    return changed[:most]


if __name__ == "__main__":
    for path in VECTORS.glob("good-*.latq"):  # So that all modules are there to be instrumented.
        verified(path.read_bytes())
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and (function.__module__ or "").startswith("latq."):
            atheris.instrument_func(function)
    cap_memory()
    atheris.Setup(sys.argv, read, custom_mutator=mutate)
    atheris.Fuzz()
