"""``avser models``: list the released models."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avser.bundle.listing import listed
from avser.cli.parser import CommandParser
from avser.evaluation.numbers import format_figure


def run(words: Sequence[str]) -> int:
    """Print name, classes, size, figure and licence of every released model."""
    parser = CommandParser("models", "List the released models.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    own = parser.parse_args(list(words))
    from importlib.resources import files

    rows: list[dict[str, Any]] = []
    for path in sorted(Path(str(files("avser.checkpoints"))).glob("*/config.yaml")):
        rows.append({**listed(path.parent), "folder": str(path.parent)})
    if own.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        figure = f"UAR {format_figure(row['uar'])} ({row['split']})" if row["uar"] else "no figure"
        print(f"{row['name']}  {row['parameters']:,} parameters, {figure}")
        print(f"  {', '.join(row['emotions'])}")
        print(f"  licence of the weights: {row['licence']}")
        print(f"  {row['folder']}")
    return 0
