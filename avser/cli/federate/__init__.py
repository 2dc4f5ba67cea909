"""``avser federate``: train together without moving a recording."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from avser.errors import ConfigError, unknown

COMMANDS = {
    "simulate": "train over the clients of a corpus on this machine",
    "keys": "make the keys and certificates of a server or a client",
    "server": "coordinate a federation",
    "client": "train on this machine's clips for a federation",
    "model": "fetch the newest model of a server",
    "test": "measure the newest model of a server on a corpus",
    "contribute": "a page to record, check and contribute clips",
    "audit-leakage": "how much updates tell of their speakers",
    "table": "one line of results for each run",
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: avser federate COMMAND ...\n\n"
        "Improve one model with many people's recordings, which stay on their machines.\n\n"
        f"commands:\n{rows}\n\n"
        "avser federate COMMAND --help tells more."
    )


def run(words: Sequence[str]) -> int:
    """Run one of the commands."""
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    command, *rest = words
    if command not in COMMANDS:
        print(f"avser federate: {unknown('command', command, COMMANDS)}", file=sys.stderr)
        return 2
    if not {"-h", "--help"} & set(rest) and find_spec("flwr") is None:
        raise ConfigError(
            "Bad installation: federate needs Flower; pip install 'avser[federated]'."
        )
    name = command.replace("-", "_")
    code: int = import_module(f"avser.cli.federate.{name}").run(rest)
    return code
