"""Ctrl-C and SIGTERM through the real command: it stops at once, in one line, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import latq

pytestmark = pytest.mark.usefixtures("in_tmp_path")

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
both = pytest.mark.parametrize("number", CODES)


def stopped(
    arguments: Sequence[str], number: signal.Signals, *, begun: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What a command says that gets a signal as soon as there is a file ``begun``, or one of any name.

    It may be done before the signal comes, and then it succeeds.
    """
    before = set(os.listdir())
    command = [sys.executable, "-m", "latq", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if begun.exists() if begun else set(os.listdir()) != before:
                break
            time.sleep(0.002)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    if process.returncode:
        assert process.returncode == CODES[number]
        assert err == f"latq: error: {WORDS[number]}\n"
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a matrix that keeps any command busy for a while, plain and compressed."""
    folder = tmp_path_factory.mktemp("large")
    narrow = np.random.default_rng(0).standard_normal((2048, 64)).astype(np.float32)
    np.save(folder / "a.npy", np.tile(narrow, (1, 64)))
    latq.save(folder / "a.latq", np.tile(narrow, (1, 64)))
    return folder


COMMANDS = {
    "encode": "encode {0}/a.npy -o out.latq --bits 8",
    "encode fixed": "encode {0}/a.npy -o out.latq --coding fixed",
    "decode to npy": "decode {0}/a.latq -o out.npy",
    "decode to h5": "decode {0}/a.latq -o out.h5",
    "decode to safetensors": "decode {0}/a.latq -o out.safetensors",
    "product": "product {0}/a.latq {0}/a.latq -o out.npy",
    "product to h5": "product {0}/a.latq {0}/a.npy -o out.h5",
    "compare": "compare {0}/a.npy {0}/a.latq --plot out.png",
}


# Short sleeps: a signal that comes just before a long one is answered after it.
PAUSE = """
import time
from pathlib import Path

def pause():
    for _ in range(6000):
        time.sleep(0.01)

"""


def slow_module(name: str, code: str) -> dict[str, str]:
    """An environment where a module that the command imports runs ``code`` in place of its own."""
    folder = Path("modules").absolute()
    folder.mkdir()
    (folder / f"{name}.py").write_text(PAUSE + code)
    return {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def command_line(command: str, folder: Path, threads: int) -> tuple[list[str], Path]:
    """Arguments of one of the commands, and the output that is there before it."""
    arguments = [*command.format(folder).split(), "-f", "-j", str(threads)]
    output = Path(next(word for word in arguments if word.startswith("out.")))
    output.write_bytes(b"precious")
    return arguments, output


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_nothing_is_left(large: Path, command: str, threads: int) -> None:
    arguments, output = command_line(command, large, threads)
    done = stopped(arguments, signal.SIGINT)
    assert os.listdir() == [str(output)]
    if done.returncode:
        assert done.stdout == ""
        assert output.read_bytes() == b"precious"


WAITS = """
import sys

def wait(event, arguments):
    if event == "os.rename" and ".latq." in str(arguments[0]):
        Path(__file__).with_name("begun").touch()
        pause()

sys.addaudithook(wait)
"""


@both
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_nothing_is_left_when_all_but_done(large: Path, command: str, number: signal.Signals) -> None:
    arguments, output = command_line(command, large, 2)
    environment = slow_module("sitecustomize", WAITS)
    done = stopped(arguments, number, begun=Path("modules/begun"), **environment)
    assert done.returncode == CODES[number]
    assert sorted(os.listdir()) == ["modules", str(output)]
    assert output.read_bytes() == b"precious"


@both
def test_json(large: Path, number: signal.Signals) -> None:
    environment = slow_module("sitecustomize", WAITS)
    done = stopped(
        ["encode", f"{large}/a.npy", "-o", "out.latq", "--json"], number, begun=Path("modules/begun"), **environment
    )
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert found["error"]["code"] == CODES[number]
    assert found["error"]["message"] == WORDS[number]


@both
@pytest.mark.parametrize("module", ["click", "numpy", "msgspec"])
def test_while_modules_are_imported(module: str, number: signal.Signals) -> None:
    environment = slow_module(module, "Path('begun').touch()\npause()")
    assert stopped(["info", "a.latq"], number, **environment).returncode == CODES[number]


SWALLOWED = """
class Swallows:
    def __del__(self):
        Path("begun").touch()
        pause()

Swallows()
pause()
"""


@both
def test_what_a_library_swallows_stops_all_the_same(number: signal.Signals) -> None:
    done = stopped(["info", "a.latq"], number, **slow_module("numpy", SWALLOWED))
    assert done.returncode == CODES[number]


TURNED = """
Path("begun").touch()
try:
    pause()
except BaseException:
    raise ImportError("cannot initialise") from None
"""


@both
def test_what_a_library_turns_into_an_import_error(number: signal.Signals) -> None:
    done = stopped(["info", "a.latq"], number, **slow_module("numpy", TURNED))
    assert done.returncode == CODES[number]
