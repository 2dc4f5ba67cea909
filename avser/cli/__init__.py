"""Command line: one module a command, found by walking this package.

A module is a command if its docstring begins with ``avser NAME`` in double backticks, a colon and
a summary of one line, and if it has ``run(arguments) -> int``. Only that line is read for
``avser --help``; a command's module is imported when the command is called.
"""

import codecs
import io
import logging
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FrameType

from avser import __version__
from avser.cli.pipes import reader_has_ended, until_reader_ends
from avser.errors import AvserError, os_error_sentence, unknown

_FIRST_LINE = re.compile(r'"""``avser (?:[a-z]+ )?(?P<name>[a-z-]+)``: (?P<summary>.+?)\.?"*$')


@cache
def commands(package: str = __name__) -> dict[str, str]:
    """Commands of a package, with their summaries, by name.

    Args:
        package: ``avser.cli``, or a package of subcommands in it.
    """
    table = {}
    folder = Path(__file__).parent.joinpath(*package.removeprefix(__name__).split(".")[1:])
    for path in sorted([*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]):
        with path.open(encoding="utf-8") as file:
            match = _FIRST_LINE.match(file.readline().rstrip())
        if match is not None:
            table[match["name"]] = match["summary"]
    return table


def _usage() -> str:
    width = max(map(len, commands()))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in commands().items())
    return (
        "usage: avser COMMAND ...\n\n"
        "Recognise emotion in clips of people speaking, from voice, face, or both.\n\n"
        f"commands:\n{rows}\n\n"
        "avser COMMAND --help prints the options of a command.\n"
        "avser --version prints the version; --debug with any command shows tracebacks."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 for bad input; 2 for bad usage; 130 when interrupted, 141 when the reader of the output
        has ended, 143 by SIGTERM.
    """
    return until_reader_ends(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"avser {__version__}")
        return 0
    command, *rest = words
    if command not in commands():
        print(f"avser: {unknown('command', command, commands())}", file=sys.stderr)
        return 2
    # bytes of a name that are no UTF-8 are written as they are; other characters are escaped
    codecs.register_error("avser", _replace)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="avser")
    try:
        with _logging() if debug else nullcontext(), _terminable():
            code: int = import_module(f"avser.cli.{command.replace('-', '_')}").run(rest)
        return code
    except AvserError as error:
        if debug:
            raise
        print(f"avser {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"avser {command}: {str(error) or 'interrupted.'}", file=sys.stderr)
        return 143 if isinstance(error, TerminatedError) else 130
    except BrokenPipeError as error:
        if reader_has_ended():
            raise
        print(f"avser {command}: {os_error_sentence(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # a file that can't be written, a full disk
        if debug:
            raise
        print(f"avser {command}: {os_error_sentence(error)}", file=sys.stderr)
        return 1


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, which ends every command as Ctrl-C does: what is done is kept, the rest goes."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise `TerminatedError` on SIGTERM; only the main thread may set that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Let standard output take every file name, and characters that the terminal lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    bytes_of_a_name = all("\udc80" <= c <= "\udcff" for c in characters)
    handler = codecs.lookup_error("surrogateescape" if bytes_of_a_name else "backslashreplace")
    replacement: tuple[str | bytes, int] = handler(error)
    return replacement


@contextmanager
def _logging() -> Iterator[None]:
    """Log what the package does to stderr, with tracebacks of failed inputs."""
    logger, handler = logging.getLogger("avser"), logging.StreamHandler()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
