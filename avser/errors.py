"""The one tree of errors.

Every message is one sentence of one shape: what is wrong, the value, what is legal, the cure.
The command line prints it on one line and exits with 1 (bad input) or 2 (bad usage).
"""

from collections.abc import Iterable
from difflib import get_close_matches


class AvserError(Exception):
    """Base of every error that avser raises on purpose."""


class MediaError(AvserError):
    """A media file can't be opened or decoded."""


class CorpusError(AvserError):
    """A corpus is not where it was looked for, or its files are not as its layout says."""


class SplitError(AvserError):
    """A split is impossible, leaks a speaker, or asks for a part that does not exist."""


class ConfigError(AvserError):
    """A setting is out of its range, or two settings do not fit together."""


class BundleError(AvserError):
    """A released model is damaged, unsafe, or not found."""


class SignalError(AvserError):
    """A clip lacks the stream that was asked for."""


class CacheError(AvserError):
    """Prepared data can't be written or read."""


class StorageError(AvserError):
    """A folder or a bucket can't be written or read."""


class ClusterError(AvserError):
    """A cluster can't be reached, or went away."""


def unknown(what: str, value: object, legal: Iterable[str]) -> str:
    """Say in one sentence that a name is unknown, and which was probably meant.

    >>> unknown("emotion", "angri", ["angry", "sad"])
    "Bad emotion 'angri': expected one of angry, sad; did you mean 'angry'?"
    """
    names = list(legal)
    close = get_close_matches(str(value), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"Bad {what} {str(value)!r}: expected one of {', '.join(names)}{hint}"
