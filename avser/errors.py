"""Exception classes, and the form of their messages.

Every message is one sentence: what is wrong, the value, what is legal, the cure.
The command line prints it on one line and exits with 1 (bad input) or 2 (bad usage).
"""

import errno
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

#: Line breaks of Unicode, and marks that change the direction of text on a terminal.
_UNSAFE = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class AvserError(Exception):
    """Base class of all errors that avser raises on purpose."""

    def __str__(self) -> str:
        """Return the sentence on one line; control characters of file names are escaped."""
        return escape_controls(super().__str__())


class MediaError(AvserError):
    """A media file can't be opened or decoded."""


class CorpusError(AvserError):
    """A corpus is missing, or its files do not follow its layout."""


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


_CURES = {
    errno.EACCES: "check its rights, or name another place",
    errno.EPERM: "check its rights, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.ENOSPC: "free some space, or name a place on another disk",
    errno.EDQUOT: "free some space, or name a place on another disk",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a part of that name is a file; name a place in a folder",
    errno.EEXIST: "a part of that name is a file; name a place in a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def os_error_sentence(error: OSError) -> str:
    """Return one sentence about an error of the operating system: place, reason and cure.

    >>> os_error_sentence(IsADirectoryError(errno.EISDIR, "Is a directory", "out"))
    "Can't use out: is a directory; name a file."
    """
    reason = error.strerror or str(error) or type(error).__name__
    place = "a file" if error.filename is None else str(error.filename)
    cure = _CURES.get(error.errno or 0, "check that this place is there and can be written")
    return escape_controls(f"Can't use {place}: {reason[:1].lower()}{reason[1:]}; {cure}.")


def escape_controls(text: str) -> str:
    r"""Escape control characters and line breaks, such as those of file names.

    >>> print(escape_controls("take\n1\x1b[2J.wav"))
    take\n1\x1b[2J.wav
    """
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if c in _UNSAFE or unicodedata.category(c) == "Cc"
        else c
        for c in text
    )


_MOST_LISTED = 20  # names that are listed although one of them was probably meant


def unknown(what: str, value: object, legal: Iterable[str]) -> str:
    """Return one sentence about an unknown name, with the legal or probable ones.

    >>> unknown("emotion", "angri", ["angry", "sad"])
    "Bad emotion 'angri': expected one of angry, sad; did you mean 'angry'?"
    """
    names = list(legal)
    close = get_close_matches(str(value), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    if close and len(names) > _MOST_LISTED:
        return f"Bad {what} {str(value)!r}: it is none of the {len(names)} known{hint}"
    return f"Bad {what} {str(value)!r}: expected one of {', '.join(names)}{hint}"
