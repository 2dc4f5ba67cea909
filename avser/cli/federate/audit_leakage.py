"""``avser federate audit-leakage``: how much updates reveal of their speakers."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from avser.cli.parser import CommandParser


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser(
        "federate audit-leakage",
        "Measure how much the updates of clients reveal of their speakers.",
    )
    own.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="simulated with --keep-updates"
    )
    own.add_argument("--json", metavar="FILE", type=Path, help="write the rows there")
    return own


def run(words: Sequence[str]) -> int:
    """Print a line for each run, and one with its noise where it is differentially private."""
    own = parser().parse_args(words)
    from avser.federated.privacy.leakage import CHANCE, audit_run
    from avser.files import atomic_write

    rows = []
    for folder in own.runs:
        for leak in audit_run(folder):
            print(f"{folder}: {leak.describe()}")
            rows.append({"run": folder.name, "chance": CHANCE, **asdict(leak)})
    if own.json:
        with atomic_write(own.json) as file:
            file.write(json.dumps(rows, indent=1) + "\n")
    return 0
