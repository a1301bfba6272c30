"""The process of the command: its signals and its exit code.

Next to nothing is imported before Ctrl-C and SIGTERM are answered, so that they may come while the rest is.
"""

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from latq.cli.failure import Stop, fail

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # Else it is to be ignored.
        signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _insist
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    try:
        from latq.cli.main import run

        code = run(arguments)
    except KeyboardInterrupt:
        code = fail("interrupted", EXIT_INTERRUPTED, as_json, "Interrupted")
    except SystemExit:
        code = fail("terminated", EXIT_TERMINATED, as_json, "Terminated")
    if code:
        # All is closed and removed by now, and HDF5 would crash in its clean-up after a file that it could not finish.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind on Ctrl-C."""
    Stop.raised = KeyboardInterrupt()
    raise Stop.raised


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind on SIGTERM, so that temporary files are removed."""
    Stop.raised = SystemExit()
    raise Stop.raised


def _insist(lost: "UnraisableHookArgs") -> None:
    """Stop a little later where a library has swallowed what was to stop the command: h5py does while it frees
    objects, which is where most signals meet it."""
    stop = lost.exc_value
    if not isinstance(stop, KeyboardInterrupt | SystemExit):
        sys.__unraisablehook__(lost)
        return

    def again(number: int, frame: FrameType | None) -> NoReturn:
        raise stop

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, 1e-3)


if __name__ == "__main__":
    main()
