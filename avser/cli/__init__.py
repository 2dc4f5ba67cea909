"""The command line: parses, calls, prints.

Each command is a module of this package with a ``run(arguments) -> int``; it is imported only when
it is called, so that ``avser --help`` answers at once.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from avser import __version__
from avser.errors import AvserError, unknown

COMMANDS = {
    "classify": "label media files, or folders of them",
    "fit": "train a model",
    "crossval": "train and test over folds and seeds",
    "search": "try random settings, chosen by validation",
    "evaluate": "measure a model on a corpus",
    "combine": "what finished trainings would say together",
    "table": "finished trainings side by side",
    "prepare": "decode a corpus into the cache",
    "audit": "show what a split holds",
    "listen": "label a voice while it speaks",
    "export": "write a model for other runtimes",
    "serve": "a page and an HTTP interface",
    "filters": "draw the filters of a model's first layer",
    "models": "list the released models",
    "federate": "train with others without moving a recording",
    "release": "give a trained model its name, figures and card",
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: avser COMMAND ...\n\n"
        "Recognise emotion in clips of people speaking, from the voice, the face, or both.\n\n"
        f"commands:\n{rows}\n\n"
        "avser COMMAND --help tells more. --debug shows tracebacks; --version the version."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 for bad input; 2 for bad usage; 130 when interrupted.
    """
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
    if command not in COMMANDS:
        print(f"avser: {unknown('command', command, COMMANDS)}", file=sys.stderr)
        return 2
    try:
        code: int = import_module(f"avser.cli.{command}").run(rest)
        return code
    except AvserError as error:
        if debug:
            raise
        print(f"avser {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"avser {command}: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; so be it
        return 1
    except OSError as error:  # a file that can't be written, a full disk
        if debug:
            raise
        print(f"avser {command}: {error}", file=sys.stderr)
        return 1
