"""Hostile .latq files: damage that checksums must notice, and changes under sound checksums that reach deep code.

All randomness is that of the ``Random`` given, so that a finding is a seed.
"""

import copy
import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
sys.path.insert(0, str(VECTORS))

from pieces import Built, Chunk, Parts  # noqa: E402

from latq.container import BytesSource, ContainerReader  # noqa: E402
from latq.container.records import FRAME_HEADER_SIZE  # noqa: E402

INTEGERS = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 1023, 4095, 4096, 16383, 16384]
INTEGERS += [2**k + d for k in (15, 16, 24, 26, 28, 31, 32, 48, 53, 63, 64) for d in (-1, 0, 1)]
SCALARS: list[Any] = [*INTEGERS, *(-i for i in INTEGERS), 0.5, -0.0, 1e-320, 1e308, "", "..", "/", "\x7f", None, True]
SCALARS += ["e8", "raw", "fixed", "entropy", "zstd", "float64", "bfloat16", "bool", "hadamard", "none", [], {}]


# --- under checksums that do not hold -----------------------------------------------------------------------------


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes flipped, overwritten, inserted, deleted, moved or cut off; always different from ``data``."""
    while True:
        changed = bytearray(data)
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            _damage(changed, random)
        if bytes(changed) != data:
            return bytes(changed)


def _damage(data: bytearray, random: Random) -> None:
    at, length = random.randrange(len(data) + 1), 1 << random.randrange(8)
    how = random.randrange(7)
    if how <= 1 and at < len(data):
        data[at] ^= 1 << random.randrange(8)
    elif how == 2:
        data[at : at + length] = random.randbytes(len(data[at : at + length]))
    elif how == 3:
        data[at:at] = random.randbytes(length)
    elif how == 4:
        del data[at : at + length]
    elif how == 5:
        other = random.randrange(len(data) + 1)
        data[at : at + length] = data[other : other + length]
    elif how == 6 and at:
        del data[at:]


# --- under sound checksums ----------------------------------------------------------------------------------------


def parts_of_file(data: bytes) -> Parts:
    """A sound file in pieces."""
    with ContainerReader(BytesSource(data)) as reader:
        chunks = [Chunk(r.tensor, r.chunk, r.vectors, r.codec, reader.payload(r)) for r in reader.records]
        words = reader.preamble
        return Parts(chunks, json.loads(reader.metadata), words.align_log2, words.minor, words.may_ignore)


def forged(parts: Parts, random: Random) -> bytes:
    """A file with one to three changes in payloads, metadata, the chunk list or the fields of the container."""
    parts = replace(parts, metadata=copy.deepcopy(parts.metadata), chunks=list(parts.chunks))
    fields = False
    for _ in range(random.choice((1, 1, 2, 3))):
        how = random.randrange(10)
        if how < 4 and parts.chunks:
            at = random.randrange(len(parts.chunks))
            parts = parts.with_payload(lambda payload: _payload(payload, random), at)
        elif how < 7 and not isinstance(parts.metadata, bytes):
            parts = replace(parts, metadata=_metadata(parts.metadata, random))
        elif how == 7 and parts.chunks:
            _chunk_list(parts.chunks, random)
        else:
            fields = True
    built = parts.build()
    if fields:
        _container(built, random)
    return bytes(built.data)


def _payload(payload: bytes, random: Random) -> bytes:
    """Mostly its head, where sizes, scales and states are."""
    data = bytearray(payload)
    if random.random() < 0.5:
        size, form = random.choice(((1, "<B"), (2, "<H"), (4, "<I")))
        at = random.randrange(max(1, min(len(data), 64)))
        data[at : at + size] = struct.pack(form, random.choice(INTEGERS) % (1 << 8 * size))
    else:
        _damage(data, random)
    return bytes(data)


def _metadata(value: Any, random: Random) -> Any:
    """One value somewhere inside replaced, doubled, moved or removed; sometimes the text itself is damaged."""
    if random.random() < 0.1:
        text = bytearray(json.dumps(value).encode())
        _damage(text, random)
        return bytes(text)
    places = list(_places(value))
    if not places:
        return value
    container, key = random.choice(places)
    how = random.randrange(6)
    if how == 0:
        del container[key]
    elif how == 1:
        other, place = random.choice(places)
        container[key] = copy.deepcopy(other[place])
    elif how == 2 and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif isinstance(container[key], int) and random.random() < 0.5:
        container[key] += random.choice((-2, -1, 1, 2))
    else:
        container[key] = copy.deepcopy(random.choice(SCALARS))
    return value


def _places(value: Any) -> Any:
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _chunk_list(chunks: list[Chunk], random: Random) -> None:
    at, how = random.randrange(len(chunks)), random.randrange(4)
    if how == 0:
        del chunks[at]
    elif how == 1:
        chunks.insert(at, chunks[at])
    elif how == 2:
        chunks[at] = replace(chunks[at], payload=random.choice(chunks).payload)
    else:
        field, most = random.choice((("tensor", 32), ("chunk", 32), ("vectors", 32), ("codec", 16)))
        chunks[at] = replace(chunks[at], **{field: random.choice(INTEGERS) % (1 << most)})


def _container(built: Built, random: Random) -> None:
    """A field of one record, over which the checksums are then made right again."""
    place = random.choice(list(built.places))
    size = {"preamble": 60, "footer": 116}.get(place, 28)
    if place == "index" and random.random() < 0.7:
        at, size = FRAME_HEADER_SIZE, built.lengths["index"]
        if not size:
            return
    else:
        at = 0
    width = random.choice((1, 2, 4, 8))
    at += random.randrange(0, size, min(width, 4))
    value = random.choice(INTEGERS) % (1 << 8 * width)
    built.put(place, at, value.to_bytes(width, "little")[: size - at % size] or b"\0")
    built.data = built.data[: built.places["footer"] + 128]
    built.seal()
