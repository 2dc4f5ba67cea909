"""Result table in the terminal: UAR first, marks on every line. Imports no Lightning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from avser.evaluation import metrics
from avser.evaluation.numbers import format_count, format_figure
from avser.visualization.numbers import format_share


def metadata_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """Corpus, split, model, seeds and the like, as rows of a table."""
    speakers, unit = len(summary["per_speaker"]), summary["interval_unit"]
    row = "Chunks" if "by chunk" in summary["split"] else "Clips"
    whose = format_count(speakers, "speaker") if speakers else "unknown speakers"
    about = {
        "Corpus": summary["corpus"],
        row: f"{summary['n']:,} of {whose}",
        "Classes": f"{len(summary['classes'])}: {', '.join(summary['classes'])}",
        **{
            f"By {level}": f"UAR {format_figure(f['uar'])}, accuracy {format_figure(f['accuracy'])}"
            for level, f in summary.get("levels", {}).items()
        },
        "Label target": summary["label_target"],
        "Split": summary["split"],
        "Split hash": summary["split_hash"],
        "Model": f"{summary['model']}, {summary['parameters']:,} parameters",
        "Seeds": ", ".join(map(str, summary["seeds"])) or "unknown",
        "Epochs run": ", ".join(map(str, summary["epochs"])) or "unknown",
        "Commit": summary["commit"] or "unknown",
        "Intervals": f"95 %, bootstrap by {unit}"
        if summary["uar"]["low"] is not None
        else f"none: too few {unit}s, {metrics.MIN_GROUPS} are needed",
    }
    if "cost" in summary:
        about["Cost"] = format_cost(summary["cost"])
    if summary["seen_speakers"]:
        about["Seen speakers"] = ", ".join(summary["seen_speakers"])
    return about


def format_cost(cost: Mapping[str, Any]) -> str:
    """Text of training time, size and speed.

    >>> format_cost({"minutes": 3.21, "threads": 2, "bytes": 262144, "clips_per_second": 85.2})
    'trained in 3.2 min on 2 threads, 0.26 MB, 85 clips/s'
    """
    return (
        f"trained in {cost['minutes']:.1f} min on {format_count(cost['threads'], 'thread')}, "
        f"{cost['bytes'] / 1e6:.2f} MB, {cost['clips_per_second']:.0f} clips/s"
    )


def print_table(summary: Mapping[str, Any], console: Console) -> None:
    """Print the figures, UAR first, with the marks of each line.

    Args:
        summary: of `summarise`.
        console: of rich, where to print.
    """
    marks = summary["marks"]
    title = f"{summary['model']} on {summary['corpus']}, {summary['split']}"
    main = _table(title, "Figure", "Value [95 % interval]")
    figures = {"UAR": "uar", "Accuracy": "accuracy", "Macro-F1": "macro_f1"}
    if "macro_precision" in summary:
        figures["Macro-precision"] = "macro_precision"
    for name, key in figures.items():
        main.add_row(Text(name, "bold"), Text(format_figure(summary[key])), _highlighted(marks))
    for seed, value in zip(summary["seeds"], summary["uar"]["per_seed"], strict=False):
        if len(summary["seeds"]) > 1:
            main.add_row(f"  UAR, seed {seed}", format_figure(value), _highlighted(marks))
    main.add_row("ECE", format_figure(summary["ece"]), _highlighted(marks))
    for name, figures in summary.get("streams", {}).items():
        main.add_row(f"UAR, {name} alone", format_figure(figures["uar"]), _highlighted(marks))
    console.print(main)

    detail = _table("", "Part", "Clips", "UAR or recall")
    for name, row in summary["per_sex"].items():
        detail.add_row(
            Text(name), str(row["n"]), Text(format_figure(row["uar"])), _highlighted(row["marks"])
        )
    detail.add_section()
    rows = sorted(summary["per_speaker"].items(), key=lambda item: item[1]["uar"])
    for word, place in (("lowest", 0), ("median", len(rows) // 2), ("highest", -1)):
        if len(rows) > 2:
            name, row = rows[place]
            cells = (str(row["n"]), Text(format_figure(row["uar"])), _highlighted(row["marks"]))
            detail.add_row(Text(f"{word} speaker, {name}"), *cells)
    detail.add_section()
    for name, value in summary["recall"].items():
        detail.add_row(
            Text(name), f"{summary['support'][name]:g}", format_figure(value), _highlighted(marks)
        )
    console.print(detail)
    if "stress" in summary:
        console.print(_stress_table(summary["stress"], marks))

    about = _grid()
    for name, value in metadata_rows(summary).items():
        about.add_row(name, Text(value))
    console.print(about)
    for note in summary["notes"]:
        console.print(Text(f"Note: {note}"))


def _stress_table(stress: Mapping[str, Any], marks: Sequence[str]) -> Table:
    """UAR under each condition, and how far that is under the clean one."""
    table = _table("Stress", "Condition", "UAR [95 % interval]", "Change")
    clean = next(iter(stress.values()))["uar"]["value"]
    for name, figures in stress.items():
        change = format_share(figures["uar"]["value"] - clean, sign=True)
        table.add_row(Text(name), Text(format_figure(figures["uar"])), change, _highlighted(marks))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title, "bold") if title else None, title_justify="left")
    for place, column in enumerate((*columns, "Marks")):
        table.add_column(column, justify="left" if place in (0, len(columns)) else "right")
    return table


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    return grid


def _highlighted(marks: Sequence[str]) -> Text:
    return Text(", ".join(marks), "bold white on red" if marks else "")
