"""``avser table``: finished trainings side by side, with their cost."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avser.cli.parser import CommandParser
from avser.errors import ConfigError

WIDTH = 180
COLUMNS = (
    *("run", "split", "clips", "epochs", "UAR", "accuracy", "F1"),
    *("parameters", "MB", "minutes", "clips/s"),
)


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser("table", "Print finished trainings side by side, with their cost.")
    own.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folders with results.json")
    own.add_argument("--markdown", action="store_true", help="print a table of Markdown")
    own.add_argument("--json", metavar="FILE", type=Path, help="also write the rows there")
    return own


def run(words: Sequence[str]) -> int:
    """Print one row for each run."""
    own = parser().parse_args(words)
    summaries = [_read(folder) for folder in own.runs]
    rows = [cells(summary) for summary in summaries]
    if own.markdown:
        for row in (COLUMNS, ["---"] * len(COLUMNS), *rows):
            print("| " + " | ".join(row) + " |")
    else:
        _print(rows)
    if own.json:
        from avser.files import atomic_write

        keep = ("model", "split", "marks", "n", "epochs", "uar", "accuracy", "macro_f1")
        more = ("levels", "parameters", "cost", "notes", "seeds", "split_hash", "commit")
        recorded = [{k: s[k] for k in (*keep, *more) if k in s} for s in summaries]
        with atomic_write(own.json) as file:
            file.write("[\n" + ",\n".join(json.dumps(row) for row in recorded) + "\n]\n")
    return 0


def _read(folder: Path) -> Mapping[str, Any]:
    path = folder / "results.json"
    if not path.is_file():
        raise ConfigError(f"Bad run {folder}: it has no results.json; let it finish.")
    result: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def cells(summary: Mapping[str, Any]) -> list[str]:
    """A run's row; marks stand loud beside its split, other levels below its figures."""
    from avser.evaluation.numbers import format_figure

    cost = summary.get("cost", {})
    shortened = [n.split(": ")[1].removesuffix(" epochs") for n in summary["notes"] if _short(n)]
    longest = f"{max(summary['epochs'], default=0)}" if summary["epochs"] else "–"
    levels = summary.get("levels", {}).items()
    figures = [
        format_figure(summary[key])
        + "".join(f"; by {level} {format_figure(f[key]['value'])}" for level, f in levels)
        for key in ("uar", "accuracy", "macro_f1")
    ]
    return [
        str(summary["model"]),
        ": ".join(filter(None, [", ".join(summary["marks"]), summary["split"]])),
        f"{summary['n']:,}",
        shortened[0] if shortened else longest,
        *figures,
        f"{summary['parameters']:,}",
        f"{cost['bytes'] / 1e6:.2f}" if cost else "–",
        f"{cost['minutes']:.1f}" if cost else "–",
        f"{cost['clips_per_second']:.0f}" if cost else "–",
    ]


def _short(note: str) -> bool:
    return note.startswith("a shortened recipe: ")


def _print(rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("run", "split") else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has room for all columns
        console = Console(width=WIDTH)
    console.print(table)
