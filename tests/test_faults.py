"""What the machine may do to a command: kill it at any step, fill the disk, change files under it, run it twice.

Whatever happens, an output is there as it was before or whole as it is to be. Signals that are caught: test_signals.py.
"""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

import latq
from latq.cli.main import run as run_command
from latq.errors import CorruptError, TruncatedError
from latq.sources import atomic_files

pytestmark = [
    pytest.mark.usefixtures("in_tmp_path"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]

STEPS = {"open", "os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "os.truncate"}


def gaussian(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def inputs() -> None:
    np.save("a.npy", gaussian(256, 40))
    latq.save("a.latq", gaussian(256, 40))
    Path("model").mkdir()
    weights = {f"model/{shard}.safetensors": {f"w{shard}": gaussian(64, 64, seed=shard)} for shard in (1, 2)}
    for path, tensors in weights.items():
        save_file(tensors, path)
    latq.save("model.latq", "model")


COMMANDS = {
    "encode": ("encode a.npy -o out.latq -f -j 1", "out.latq"),
    "encode in threads": ("encode model -o out.latq -f -j 2", "out.latq"),
    "decode": ("decode a.latq -o out.npy -f -j 1", "out.npy"),
    "decode to h5": ("decode a.latq -o out.h5 -f -j 2", "out.h5"),
    "decode to safetensors": ("decode model.latq -o out.safetensors -f -j 1", "out.safetensors"),
    "salvage": ("decode a.latq -o out.npy -f -j 1 --salvage", "out.npy"),
    "product": ("product a.latq a.latq -o out.npy -f -j 1", "out.npy"),
}
every_command = pytest.mark.parametrize(("command", "output"), COMMANDS.values(), ids=COMMANDS)


def in_child(work: Callable[[], int | None]) -> int:
    """Exit code of ``work`` in a process of its own, or the signal that ended it, negative. It says nothing."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
            code = work() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step: int, work: Callable[[], int | None]) -> int:
    """The same where SIGKILL comes just before one of the steps that change or open a file in this folder."""
    here = os.getcwd()

    def killing() -> int | None:
        left = step

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in STEPS and (event != "open" or here in str(arguments[0]) or ".latq." in str(arguments[0])):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        return work()

    return in_child(killing)


def killed_everywhere(work: Callable[[], int | None]) -> Iterator[int]:
    """Exit codes of ``work`` killed at its first step, its second, ..., until it comes to its end."""
    for step in range(1, 200):
        code = killed_at(step, work)
        yield code
        if code != -signal.SIGKILL:
            return
    raise AssertionError("it takes too many steps")


def contents(folder: str = ".") -> dict[str, bytes]:
    """Of all files, but for temporary ones that a process killed at once must leave behind."""
    return {
        str(path): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and not any(part.startswith(".latq.") for part in path.parts)
    }


@every_command
def test_killed_at_every_step(inputs: None, command: str, output: str) -> None:
    before = contents()
    assert in_child(lambda: run_command(command.split())) == 0
    whole = contents()
    Path(output).unlink()
    Path(output).write_bytes(b"precious")
    old = before | {output: b"precious"}
    codes = []
    for code in killed_everywhere(lambda: run_command(command.split())):
        codes.append(code)
        assert contents() in ((old, whole) if code else (whole,)), len(codes)
        Path(output).write_bytes(b"precious")
    assert codes[-1] == 0
    assert len(codes) > 2


def test_a_checkpoint_killed_at_every_step(inputs: None) -> None:
    """A new folder appears whole. In an old one files are exchanged one by one, so that some may be missing, but each
    is whole, and running the command again completes them."""
    command = ["decode", "model.latq", "-o", "restored/", "-f", "-j", "1"]
    assert in_child(lambda: run_command(command)) == 0
    whole = contents("restored")
    shutil.rmtree("restored")
    for code in killed_everywhere(lambda: run_command(command)):
        found = contents("restored")
        assert found in (({}, whole) if code else (whole,))
        shutil.rmtree("restored", ignore_errors=True)
    assert in_child(lambda: run_command(command)) == 0
    for code in killed_everywhere(lambda: run_command(command)):
        found = contents("restored")
        assert found.items() <= whole.items()
        assert code or found == whole
        assert not former_files("restored") or code
    assert in_child(lambda: run_command(command)) == 0
    assert contents("restored") == whole


def former_files(folder: str) -> set[str]:
    """Old files in the temporary folders of exchanges that were killed."""
    return {path.name for path in Path(folder).glob(".latq.*/former/*")}


def test_the_next_exchange_undoes_one_that_was_killed(inputs: None) -> None:
    """Old files that were out of the way come back, unless all new ones had come; nothing of it is left."""

    def exchange(number: int, *names: str) -> None:
        with atomic_files("models", names, force=True) as folder:
            for name in names:
                (folder / name).write_bytes(b"%d" % number)

    Path("models").mkdir()
    seen = set()
    for step in range(1, 200):
        for path in contents("models"):
            Path(path).unlink()
        exchange(1, "a", "b")
        code = killed_at(step, lambda: exchange(2, "a", "b"))
        left = len(former_files("models"))
        exchange(3, "c")
        assert former_files("models") == set()
        found = contents("models")
        assert found.pop("models/c") == b"3"
        # Killed between two files that came, the first new one gives way to the old one.
        assert set(found) == {"models/a", "models/b"}
        assert len(set(found.values())) == 1
        seen.add((left, found["models/a"]))
        if code != -signal.SIGKILL:
            break
    assert seen >= {(0, b"1"), (1, b"1"), (2, b"1"), (2, b"2"), (0, b"2")}


@every_command
def test_a_disk_that_is_full_sooner_or_later(inputs: None, command: str, output: str) -> None:
    Path(output).write_bytes(b"precious")
    before = contents()

    def limited(size: int) -> int:
        def work() -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return run_command(command.split())

        return in_child(work)

    for size in (0, 1000, 9000):
        code = limited(size)
        assert code in (0, 1), size
        if code:
            assert contents() == before
            assert not list(Path().glob(".latq.*")), "nothing is left behind"
        else:
            Path(output).write_bytes(b"precious")


@every_command
def test_a_folder_that_must_not_be_written(inputs: None, command: str, output: str) -> None:
    Path("locked").mkdir()
    Path("locked").chmod(0o555)
    folder = "/sys" if os.geteuid() == 0 else "locked"  # Root may write anywhere, but not there.
    arguments = [word.replace(output, f"{folder}/{output}") for word in command.split()]
    before = contents()
    assert in_child(lambda: run_command(arguments)) == 1
    assert contents() == before


# --- files that change ----------------------------------------------------------------------------------------


def test_cut_short_while_open() -> None:
    latq.save("x.latq", gaussian(256, 40))
    with latq.open("x.latq") as file:
        os.truncate("x.latq", 3000)
        for read in (file.only().decode, lambda: file.only().decode(threads=2), lambda: file.only()[3:5, 1:3]):
            with pytest.raises(TruncatedError, match="truncated"):
                read()


def test_overwritten_while_open() -> None:
    latq.save("x.latq", gaussian(256, 40))
    with latq.open("x.latq") as file:
        with open("x.latq", "r+b") as stream:
            stream.write(latq.encode(gaussian(256, 40, seed=1)))
        for read in (file.only().decode, lambda: file.only().decode(threads=2), lambda: file.only()[3:5, 1:3]):
            with pytest.raises(CorruptError):
                read()


def test_replaced_while_open() -> None:
    """Another file of the name does not matter to those who have opened the former."""
    latq.save("x.latq", gaussian(256, 40))
    before = latq.decode("x.latq")
    with latq.open("x.latq") as file:
        latq.save("x.latq", gaussian(256, 40, seed=1), overwrite=True)
        np.testing.assert_array_equal(file.only().decode(), before)


def test_an_input_cut_short_while_it_is_encoded(inputs: None) -> None:
    """Inputs are mapped, so the system ends the process; the former output stays."""
    np.save("large.npy", gaussian(512, 2048))
    Path("out.latq").write_bytes(b"precious")

    def work() -> int:
        def cut(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open" and ".latq." in str(arguments[0]):
                os.truncate("large.npy", 4096)

        sys.addaudithook(cut)
        return run_command(["encode", "large.npy", "-o", "out.latq", "-f", "-j", "1"])

    assert in_child(work) in (-signal.SIGBUS, 1)
    assert Path("out.latq").read_bytes() == b"precious"


# --- several at once ----------------------------------------------------------------------------------------------


def at_once(*works: Callable[[], int | None]) -> list[int]:
    """Exit codes of all, run at the same time."""
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            os._exit(in_child(work) & 0xFF)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_writers_of_one_file(inputs: None) -> None:
    wholes = {latq.encode(gaussian(256, 40, seed=seed)) for seed in range(4)}
    for seed in range(4):
        np.save(f"{seed}.npy", gaussian(256, 40, seed=seed))
    for _ in range(3):
        codes = at_once(
            *(lambda s=seed: run_command(f"encode {s}.npy -o out.latq -f -j 1".split()) for seed in range(4))
        )
        assert codes == [0] * 4
        assert Path("out.latq").read_bytes() in wholes
        assert not list(Path().glob(".latq.*"))


def test_writers_of_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that belong together never come from two of them."""
    monkeypatch.setattr("latq.sources.atomic._write_out", lambda path: None)  # Which takes the time apart.
    names = [f"{i}.safetensors" for i in range(40)]
    Path("out").mkdir()

    def write(writer: int) -> None:
        with atomic_files("out", names, force=True) as folder:
            for name in names:
                (folder / name).write_text(str(writer))

    for _ in range(6):
        assert at_once(*(lambda w=writer: write(w) for writer in range(3))) == [0, 0, 0]
        assert sorted(contents("out")) == sorted(f"out/{name}" for name in names)
        assert len(set(contents("out").values())) == 1
