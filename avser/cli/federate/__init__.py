"""``avser federate``: federated training; recordings stay where they are."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from avser.cli import commands
from avser.errors import ConfigError, unknown


def _usage() -> str:
    table = commands(__name__)
    width = max(map(len, table))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in table.items())
    return (
        "usage: avser federate COMMAND ...\n\n"
        "Train one model on many people's recordings, which stay on their machines.\n\n"
        f"commands:\n{rows}\n\n"
        "avser federate COMMAND --help prints its options."
    )


def run(words: Sequence[str]) -> int:
    """Run one of the commands."""
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    command, *rest = words
    if command not in commands(__name__):
        print(f"avser federate: {unknown('command', command, commands(__name__))}", file=sys.stderr)
        return 2
    if not {"-h", "--help"} & set(rest) and find_spec("flwr") is None:
        raise ConfigError(
            "Bad installation: federate needs Flower; pip install 'avser[federated]'."
        )
    name = command.replace("-", "_")
    code: int = import_module(f"avser.cli.federate.{name}").run(rest)
    return code
