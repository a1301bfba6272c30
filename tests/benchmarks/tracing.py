"""Where the time of a real run goes: functions of the package are replaced by themselves with a clock around.

Nothing is run in another way than users run it, and the parts add up to the whole. Good for one thread.
"""

import importlib
import inspect
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass

import numpy as np


@dataclass(frozen=True)
class Stage:
    """A function ("module:name" or "module:Class.name") whose time is told apart from that of the stage around it.

    Those inside a ``closed`` one are not, unless they are closed too. ``moved`` gives the bytes that a call moves.
    """

    label: str
    path: str
    closed: bool = False
    moved: object = None


@dataclass
class Part:
    """Calls, seconds that belong to nothing further inside, and bytes read and written."""

    calls: int = 0
    seconds: float = 0.0
    bytes: int = 0


@dataclass
class Trace:
    """``parts`` by (stage, kernel), the kernel being "" for the rest of a stage, in the order of their first calls."""

    parts: dict[tuple[str, str], Part] = field(default_factory=dict)
    _open: list[list] = field(default_factory=list)  # (stage, kernel, closed, seconds of what is inside) of each call

    def call(self, function, arguments, options, stage, kernel, closed, moved):
        outer = self._open[-1] if self._open else ["the rest", "", False, 0.0]
        if outer[1] or (outer[2] and not (closed or kernel)):
            return function(*arguments, **options)
        frame = [outer[0] if kernel else stage, kernel, closed, 0.0]
        part = self.parts.setdefault((frame[0], kernel), Part())
        self._open.append(frame)
        started = time.perf_counter()
        try:
            result = function(*arguments, **options)
        finally:
            elapsed = time.perf_counter() - started
            self._open.pop()
            outer[3] += elapsed
        part.calls += 1
        part.seconds += elapsed - frame[3]
        part.bytes += moved(arguments, result) if moved else touched(arguments) + touched(result)
        return result


def touched(value):
    """Bytes of all arrays in a value: what a call with it has to read or write at least."""
    if isinstance(value, np.ndarray | memoryview):
        return value.nbytes
    if isinstance(value, bytes | bytearray):
        return len(value)
    if isinstance(value, tuple | list):
        return sum(map(touched, value))
    if is_dataclass(value) and not isinstance(value, type):
        return sum(map(touched, vars(value).values()))
    return 0


def find(path):
    """The module or class, and the function in it, that "module:name" or "module:Class.name" stands for."""
    module, _, name = path.partition(":")
    found = [importlib.import_module(module)]
    for part in name.split("."):
        found.append(getattr(found[-1], part))
    return found[-2:]


def present(stages):
    """Those whose function there is; a line about any other, which has got another name."""
    kept = []
    for stage in stages:
        try:
            find(stage.path)
            kept.append(stage)
        except (ImportError, AttributeError) as error:
            print(f"no stage of its own: {stage.label}: {error}")
    return kept


@contextmanager
def traced(stages, kernels):
    """A Trace of what runs meanwhile; ``kernels`` is the module whose functions are listed below the stages."""
    trace, undo = Trace(), []
    importlib.import_module("latq.api")  # A module that comes later would keep the replacements for good.

    def wrap(function, stage, kernel, closed=False, moved=None):
        return lambda *a, **k: trace.call(function, a, k, stage, kernel, closed, moved)

    def replace(holders, function, wrapper):
        for holder in holders:
            for name, value in list(vars(holder).items()):
                if value is function:
                    setattr(holder, name, wrapper)
                    undo.append((holder, name, function))

    def modules():  # Functions that a module has imported are its own names for them.
        return [module for name, module in sys.modules.items() if name.split(".")[0] == "latq"]

    for name in kernels.__all__:
        if inspect.isfunction(function := getattr(kernels, name)):
            replace(modules(), function, wrap(function, "", name))
    for stage in stages:
        holder, function = find(stage.path)
        holders = [holder] if inspect.isclass(holder) else modules()
        replace(holders, function, wrap(function, stage.label, "", stage.closed, stage.moved))
    try:
        yield trace
    finally:
        for holder, name, function in reversed(undo):
            setattr(holder, name, function)
