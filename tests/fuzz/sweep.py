"""Many hostile files through the reader: every outcome must be the right entries or a ``LatqError``.

    python tests/fuzz/sweep.py bits [FILE...]             every bit of every file flipped, by default of the vectors
    python tests/fuzz/sweep.py prefixes [FILE...]         every file cut off at every byte
    python tests/fuzz/sweep.py damaged COUNT [FILE...]    random damage, by default to the samples and the vectors
    python tests/fuzz/sweep.py forged COUNT [FILE...]     random changes under sound checksums

``--seed N`` starts elsewhere, ``--seconds S`` stops after that time. The process may take 512 MiB beyond its start, and
decoding 64 MiB. Findings are written to ``findings/`` and said; the exit code is 1 if there are any.
"""

import argparse
import hashlib
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from mutate import VECTORS, damaged, forged, parts_of_file

import latq
from latq.container import BytesSource
from latq.errors import CorruptError, LatqError
from latq.pipeline.decode import File
from latq.pipeline.restore import restore
from latq.pipeline.salvage import SalvagedFile
from latq.sources import MatrixView

MEMORY = 64 << 20
ENTRIES = 1 << 22
ROOM = 512 << 20
Outcome = dict[str, str] | str


class SilentChange(Exception):
    """Damage that was not noticed."""


def arrays_of(file: File) -> dict[str, np.ndarray]:
    """All tensors decoded in little memory."""
    if sum(tensor.size for tensor in file.values()) > ENTRIES:
        raise latq.errors.LimitError("more entries than were asked for")
    arrays = {name: np.empty(tensor.shape, tensor.dtype) for name, tensor in file.items()}
    restore([(file[name], array) for name, array in arrays.items()], 1, memory=MEMORY)
    return arrays


def digests(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}


def decoded(data: bytes) -> Outcome:
    """Digests by tensor, or the class of the error."""
    try:
        with latq.open(data) as file:
            return digests(arrays_of(file))
    except LatqError as error:
        return type(error).__name__


def verified(data: bytes) -> Outcome:
    """The same of a reader that looks at every byte first."""
    try:
        with latq.open(data) as file:
            for _, problem in file.reader.damage():
                if problem is not None:
                    raise CorruptError(problem)
    except LatqError as error:
        return type(error).__name__
    return decoded(data)


class Original:
    """A sound file, and what must come of it when it is damaged."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        with latq.open(data) as file:
            self.arrays = arrays_of(file)
            self.entries = {name: tensor.entry for name, tensor in file.items()}
        self.digests = digests(self.arrays)

    def check_damaged(self, data: bytes, thorough: bool = True) -> str:
        """Class of the error of a file with other bytes; SilentChange if there is none."""
        outcome = verified(data)
        if not isinstance(outcome, str):
            raise SilentChange("verified")
        if thorough:
            if decoded(data) not in (outcome, self.digests) and not isinstance(decoded(data), str):
                raise SilentChange("decoded")
            self._check_salvaged(data)
        return outcome

    def _check_salvaged(self, data: bytes) -> None:
        """What is not said to be lost is as it was."""
        try:
            with SalvagedFile(BytesSource(data), "zero") as file:
                found, lost = arrays_of(file), file.lost
        except LatqError:
            return
        expected = {name: array.copy() for name, array in self.arrays.items()}
        for damage in lost:
            for name in (damage.tensor, *damage.tied):
                array, (e0, e1) = expected[name], damage.entries
                if damage.vectors is None:
                    array.reshape(-1)[e0:e1] = 0
                else:
                    v0, v1 = damage.vectors
                    nothing = np.zeros((v1 - v0, e1 - e0), array.dtype)
                    MatrixView(array, array.shape, self.entries[name].axis).write(v0, v1, e0, e1, nothing)
        if digests(found) != digests(expected):
            raise SilentChange("salvaged")


def flipped(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def prefixes(data: bytes) -> Iterator[bytes]:
    return (data[:length] for length in range(len(data)))


def cases(what: str, files: list[bytes], seed: int, quick: bool) -> Iterator[tuple[str, Callable[[], str], bytes]]:
    """(name, check, data): exhaustive ones end, random ones go on for ever."""
    if what in ("bits", "prefixes"):
        for number, data in enumerate(files):
            original = Original(data)
            for case, changed in enumerate((flipped if what == "bits" else prefixes)(data)):
                yield f"{what}-{number}-{case}", lambda: original.check_damaged(changed, thorough=False), changed  # noqa: B023
        return
    sources: list[Any] = [Original(data) if what == "damaged" else parts_of_file(data) for data in files]
    while True:
        random = Random(seed)
        source = random.choice(sources)
        changed = damaged(source.data, random) if what == "damaged" else forged(source, random)
        if what == "damaged":
            yield f"{what}-{seed}", lambda: source.check_damaged(changed, not quick), changed  # noqa: B023
        else:
            yield f"{what}-{seed}", lambda: _kind(verified(changed)), changed  # noqa: B023
        seed += 1


def _kind(outcome: Outcome) -> str:
    return outcome if isinstance(outcome, str) else "decoded"


def cap_memory() -> None:
    """MemoryError, a finding, for whatever takes more than ROOM beyond what the process has now."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, now + ROOM))


def default_files(what: str) -> list[Path]:
    samples = sorted(VECTORS.parents[1].joinpath("samples").glob("*.latq"))
    return sorted(VECTORS.glob("good-*.latq")) + (samples if what == "damaged" else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bits", "prefixes", "damaged", "forged"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--quick", action="store_true", help="damaged: neither decode nor salvage what verify refuses")
    parser.add_argument("--no-cap", action="store_true", help="as AddressSanitizer needs it, which maps terabytes")
    options = parser.parse_args()
    is_random = options.what in ("damaged", "forged")
    count = int(options.rest.pop(0)) if is_random else None
    files = [path.read_bytes() for path in map(Path, options.rest)] or [
        path.read_bytes() for path in default_files(options.what)
    ]
    outcomes: Counter[str] = Counter()
    findings, start = 0, time.monotonic()
    if not options.no_cap:
        cap_memory()
    warnings.simplefilter("error")
    for done, (name, check, data) in enumerate(cases(options.what, files, options.seed, options.quick)):
        if done == count or time.monotonic() - start > options.seconds:
            break
        try:
            outcomes[check()] += 1
        except Exception as error:
            findings += 1
            Path("findings").mkdir(exist_ok=True)
            Path("findings", f"{name}.latq").write_bytes(data)
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{sum(outcomes.values()) + findings} executions, {time.monotonic() - start:.0f} s, {findings} findings, "
          f"peak memory {peak} MiB; {dict(outcomes.most_common())}")  # fmt: skip
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
