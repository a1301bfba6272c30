"""One class per failure that a user can meet, each with the exit code of the command line."""


class LatqError(Exception):
    """Base of every error that latq raises on purpose; ``exit_code`` is what the command returns."""

    exit_code = 1


class InputError(LatqError):
    """An input cannot be used, or an output cannot be written: missing, unreadable, wrong type, not finite."""


class ParameterError(LatqError, ValueError):
    """An argument is out of range or contradicts another one."""

    exit_code = 2


class CorruptError(LatqError):
    """Stored bytes contradict their checksum, their bounds or each other."""

    exit_code = 3


class TruncatedError(CorruptError):
    """The file ends before its footer."""


class UnsupportedError(LatqError):
    """The file is sound, but needs a feature, codec or version that this reader does not know."""

    exit_code = 4


class LimitError(LatqError):
    """A size in the file is beyond what the reader was told to accept."""

    exit_code = 5
