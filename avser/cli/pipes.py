"""End of a command whose output nobody reads any more, as in ``avser classify DIR | head``."""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress

#: Exit code of a program that SIGPIPE ends, as shells give it.
BROKEN_PIPE = 128 + 13


def until_reader_ends(run: Callable[[], int]) -> int:
    """Call a command; without a word, end it when the reader of standard output has ended.

    Returns:
        The command's exit code, or `BROKEN_PIPE`.
    """
    try:
        code = run()
        _flush()
        return code
    except BrokenPipeError:
        if not reader_has_ended():
            raise  # of another pipe, such as a worker's
    except SystemExit as error:
        # rich ends a program itself; argparse prints its help and passes over errors
        of_rich = isinstance(error.__context__, BrokenPipeError)
        if not of_rich and (error.code or not reader_has_ended()):
            raise
    _discard_output()
    return BROKEN_PIPE


def _flush() -> None:
    with suppress(AttributeError, ValueError):  # no standard output, or a closed one
        sys.stdout.flush()


def reader_has_ended() -> bool:
    """Whether standard output is a pipe without a reader."""
    if not hasattr(select, "poll"):  # Windows
        return True
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # errors are always given
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return False


def _discard_output() -> None:
    """Let what is buffered go nowhere, so that the interpreter's last flush succeeds."""
    with suppress(AttributeError, OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
