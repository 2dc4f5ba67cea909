"""``avser federate table``: one line of results for each run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avser.cli.parser import CommandParser
from avser.errors import ConfigError
from avser.evaluation.numbers import format_figure

WIDTH = 160


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser("federate table", "Print one line of results for each run.")
    own.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="finished simulations")
    own.add_argument("--json", metavar="FILE", type=Path, help="write the rows there")
    return own


def run(words: Sequence[str]) -> int:
    """Print and write the rows."""
    own = parser().parse_args(words)
    rows = [row_of(folder) for folder in own.runs]
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Federated trainings", title_justify="left")
    names = ("run", "strategy", "clients", "rounds", "UAR", "accuracy", "precision", "F1")
    more = ("central", "alone", "base", "epsilon", "s/round", "MB up", "refused")
    for name in (*names, *more):
        table.add_column(name, justify="left" if name in ("run", "strategy") else "right")
    for row in rows:
        table.add_row(*_cells(row))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has room for all columns
        console = Console(width=WIDTH)
    console.print(table)
    if own.json:
        from avser.files import atomic_write

        with atomic_write(own.json) as file:
            file.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
    return 0


def row_of(folder: Path) -> dict[str, Any]:
    """Row of a run's ``results.json``.

    Raises:
        ConfigError: the run is not finished.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise ConfigError(f"Bad run {folder}: it has no results.json; let it finish.")
    summary = json.loads(path.read_text(encoding="utf-8"))
    facts = summary.get("federated")
    if facts is None:
        raise ConfigError(f"Bad run {folder}: it is no federated training.")
    keep = ("strategy", "clients", "partition", "rounds", "fraction", "local_epochs", "attack")
    cost = ("seconds_per_round", "bytes_up_per_client_round", "bytes_down_per_client_round")
    alone = [row["uar"] for row in facts.get("local", {}).values()]
    return {
        "run": folder.resolve().name,
        **{key: facts[key] for key in (*keep, *cost, "refused", "capped")},
        **facts["figures"],
        "uar_interval": summary["uar"],
        "central": facts.get("central"),
        "alone": {"low": min(alone), "mean": sum(alone) / len(alone), "high": max(alone)}
        if alone
        else None,
        "held": facts.get("held") or None,
        "base": facts.get("base") or None,
        "also": facts.get("also") or None,
        "privacy": facts.get("privacy"),
        "corpus": summary["corpus"],
        "split": summary["split"],
        "split_hash": summary["split_hash"],
        "parameters": summary["parameters"],
        "seeds": summary["seeds"],
        "commit": summary["commit"],
    }


def _cells(row: Mapping[str, Any]) -> list[str]:
    def share(value: object) -> str:
        return format_figure(value if isinstance(value, float) else None)

    central, base = row["central"] or {}, (row["base"] or {}).get("figures", {})
    privacy = row["privacy"] or {}
    return [
        row["run"],
        row["strategy"],
        str(row["clients"]),
        str(row["rounds"]),
        *(share(row[key]) for key in ("uar", "accuracy", "precision", "macro_f1")),
        share(central.get("uar")),
        share((row["alone"] or {}).get("mean")),
        share(base.get("uar")),
        f"{privacy['epsilon']:.2f}" if privacy else "–",
        f"{row['seconds_per_round']:.1f}",
        f"{row['bytes_up_per_client_round'] / 1e6:.2f}",
        str(row["refused"]),
    ]
