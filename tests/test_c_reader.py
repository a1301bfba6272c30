"""The reader in C99 makes the same of the test vectors, under sanitizers, where a compiler is there."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import latq

ROOT = Path(__file__).parents[1]
VECTORS = ROOT / "spec" / "vectors"
SOURCE = ROOT / "spec" / "reference" / "latq_min.c"
COMPILER = shutil.which(os.environ.get("CC", "cc"))
FLAGS = ("-std=c99", "-pedantic-errors", "-O1", "-ffp-contract=off")
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


class Reader(NamedTuple):
    """A program, and whether it was built with libzstd."""

    program: Path
    zstd: bool

    def files(self, pattern: str) -> list[Path]:
        """Vectors that it can be asked to read."""
        found = sorted(VECTORS.glob(pattern))
        return [path for path in found if self.zstd or b'"coding":"zstd"' not in path.read_bytes()]

    def run(self, *arguments: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([self.program, *map(str, arguments)], capture_output=True, check=False, timeout=60)


def build(source: Path, program: Path, *options: str) -> Reader:
    """With as much as there is on this machine: libzstd, sanitizers if asked for."""
    assert COMPILER is not None
    message = ""
    for chosen in (options, ()):
        for zstd in (True, False):
            libraries = ("-DLATQ_ZSTD", "-lzstd", "-lm") if zstd else ("-lm",)
            command = [COMPILER, *FLAGS, *chosen, "-o", str(program), str(source), *libraries]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return Reader(program, zstd)
            message = done.stderr
    pytest.fail(message)


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return build(ROOT / "tests" / "latq_min_check.c", tmp_path_factory.mktemp("c") / "check", *SANITIZED)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return build(SOURCE, tmp_path_factory.mktemp("c") / "latq_min")


def verdicts(output: bytes) -> Iterator[tuple[str, int, list[str]]]:
    """Class, place and digests of every file."""
    digests, at = [], 0
    while at < len(output):
        end = output.index(b"\n", at)
        word, number = output[at:end].decode().split()
        at = end + 1
        if word == "tensor":
            digests.append(hashlib.sha256(output[at : at + int(number)]).hexdigest())
            at += int(number)
        else:
            yield word, int(number), digests
            digests = []


def test_vectors(checker: Reader) -> None:
    files = checker.files("*.latq")
    done = checker.run("decode", *files)
    assert done.returncode == 0, done.stderr.decode()
    for path, (word, place, digests) in zip(files, verdicts(done.stdout), strict=True):
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if "error" in told:
            assert (path.stem, word, place) == (path.stem, told["error"], told["offset"])
        else:
            assert (path.stem, word, digests) == (path.stem, "sound", [t["sha256"] for t in told["tensors"]])


@pytest.mark.parametrize("what", ["prefixes", "flips"])
def test_damage(checker: Reader, what: str) -> None:
    files = sorted(checker.files("good-*.latq"), key=lambda path: path.stat().st_size)
    done = checker.run(what, *files[:40])
    assert done.returncode == 0, done.stderr.decode()


def test_command(reader: Reader) -> None:
    path = VECTORS / "good-tensors.latq"
    with latq.open(path) as file:
        listed = [f"{t.entry.dtype}\t[{','.join(map(str, t.shape))}]\t{name}\n" for name, t in file.items()]
        assert reader.run("list", path).stdout.decode() == "".join(listed)
        for name, tensor in file.items():
            assert reader.run("decode", path, name).stdout == tensor.decode().tobytes()
    missing = reader.run("decode", path, "none")
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert (reader.run("list").returncode, reader.run("list", "/nonexistent").returncode) == (2, 1)
    names = reader.run("list", VECTORS / "good-names.latq").stdout
    assert b"\\xce\\xb1\\xe2\\x80\\xa8\n" in names


@pytest.mark.parametrize("name", ["bad-digits-short", "bad-footer-missing", "unsupported-major", "bad-payload-limit"])
def test_exit_codes(reader: Reader, name: str) -> None:
    told = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    done = reader.run("decode", VECTORS / f"{name}.latq", "a")
    assert (done.returncode, done.stdout) == (told["exit_code"], b"")
    assert done.stderr.decode().startswith(f"latq_min: {told['error']} at byte {told['offset']}: ")
    assert done.stderr.count(b"\n") == 1


def test_samples(reader: Reader) -> None:
    for path in sorted((ROOT / "samples").glob("*.latq")):
        with latq.open(path) as file:
            for name, tensor in file.items():
                if reader.zstd or tensor.codec.label != "raw zstd":
                    assert reader.run("decode", path, name).stdout == tensor.decode().tobytes()
