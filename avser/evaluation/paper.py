"""Tables and figures of a report as files for a paper: LaTeX and CSV, PDF at column width."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from avser.evaluation.numbers import format_figure
from avser.files import atomic_write
from avser.visualization.plots import fit_to_column, save_figure

Cell = str | float | Mapping[str, Any] | None  # a mapping is a figure with its interval

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class ReportTable:
    """One table of a report.

    Attributes:
        caption: one line.
        columns: their names.
        rows: cells; figures with an interval as a summary has them.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def to_csv(self) -> str:
        """One line a row; a figure has two more columns, the ends of its interval."""
        kinds = [any(isinstance(cell, Mapping) for cell in column) for column in self._cells()]
        head: list[str] = []
        for name, is_figure in zip(self.columns, kinds, strict=True):
            head += [name, f"{name} low", f"{name} high"] if is_figure else [name]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(head)
        for row in self.rows:
            cells: list[Any] = []
            for cell, is_figure in zip(row, kinds, strict=True):
                if isinstance(cell, Mapping):
                    cells += [cell["value"], cell.get("low"), cell.get("high")]
                else:
                    cells += [cell, None, None] if is_figure else [cell]
            table.writerow(["" if cell is None else cell for cell in cells])
        return text.getvalue()

    def to_latex(self, label: str) -> str:
        r"""A ``table`` environment with the rules of the package booktabs.

        Args:
            label: for ``\ref``, after ``tab:``.
        """
        words = [all(isinstance(c, str) or c is None for c in column) for column in self._cells()]
        lines = [
            "% \\usepackage{booktabs}",
            "\\begin{table}",
            "  \\centering",
            f"  \\caption{{{escape_latex(self.caption)}}}",
            f"  \\label{{tab:{label}}}",
            f"  \\begin{{tabular}}{{{''.join('l' if w else 'r' for w in words)}}}",
            "    \\toprule",
            f"    {' & '.join(map(escape_latex, self.columns))} \\\\",
            "    \\midrule",
            *(f"    {' & '.join(map(_latex_cell, row))} \\\\" for row in self.rows),
            "    \\bottomrule",
            "  \\end{tabular}",
            "\\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def _cells(self) -> list[tuple[Cell, ...]]:
        columns = list(zip(*self.rows, strict=True))
        return columns or [() for _ in self.columns]


def escape_latex(text: str) -> str:
    r"""Write text so that LaTeX shows it as it is.

    >>> escape_latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return "".join(_SPECIAL.get(character, character) for character in text)


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape_latex(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float) and cell.is_integer() and cell > 1:
        return f"{int(cell):,}"  # a mean count
    return escape_latex(format_figure(cell))


def tables_of(summary: Mapping[str, Any]) -> dict[str, ReportTable]:
    """Tables of a summary, by name: summary, classes, confusion, speakers, sexes, stress."""
    about = f"{summary['model']} on {summary['corpus']}, {summary['split']}"
    named = {"UAR": "uar", "Accuracy": "accuracy", "Macro-F1": "macro_f1", "ECE": "ece"}
    rows: list[tuple[Cell, ...]] = [(name, summary[key]) for name, key in named.items()]
    for level, figures in {**summary.get("streams", {}), **summary.get("levels", {})}.items():
        rows.append((f"UAR, {level}", figures["uar"]))
    result = {
        "summary": (f"Results of {about}.", ("Figure", "Value"), rows),
        "classes": (
            f"Classes: {about}.",
            ("Class", "Clips", "Recall", "Precision", "F1"),
            [
                (
                    n,
                    summary["support"][n],
                    *(summary[k].get(n) for k in ("recall", "precision", "f1")),
                )
                for n in summary["classes"]
            ],
        ),
        "confusion": (
            f"Clips of each true class (rows) by predicted class: {about}.",
            ("True class", *summary["classes"]),
            [
                (name, *map(int, counts))
                for name, counts in zip(summary["classes"], summary["confusion"], strict=True)
            ],
        ),
        "speakers": (
            f"Speakers: {about}.",
            ("Speaker", "Clips", "UAR"),
            [(n, row["n"], row["uar"]) for n, row in summary["per_speaker"].items()],
        ),
        "sexes": (
            f"Sexes: {about}.",
            ("Sex", "Speakers", "Clips", "UAR"),
            [(n, r["speakers"], r["n"], r["uar"]) for n, r in summary["per_sex"].items()],
        ),
        "stress": (
            f"Degraded clips: {about}.",
            ("Condition", "UAR", "Accuracy"),
            [(n, row["uar"], row["accuracy"]) for n, row in summary.get("stress", {}).items()],
        ),
    }
    marks = f" Marks: {', '.join(summary['marks'])}." if summary["marks"] else ""
    return {
        name: ReportTable(caption + marks, columns, tuple(map(tuple, rows)))
        for name, (caption, columns, rows) in result.items()
        if rows
    }


def write_tables(folder: str | Path, summary: Mapping[str, Any]) -> list[Path]:
    """Write each table of a summary as ``NAME.csv`` and ``NAME.tex``."""
    written = []
    for name, table in tables_of(summary).items():
        for suffix, text in ((".csv", table.to_csv()), (".tex", table.to_latex(name))):
            written.append(Path(folder) / f"{name}{suffix}")
            with atomic_write(written[-1]) as file:
                file.write(text)
    return written


def write_figures(
    folder: str | Path, figures: Mapping[str, Figure], *, suffixes: Sequence[str] = (".pdf",)
) -> list[Path]:
    """Write figures at the width of a column; they are changed to that."""
    written = []
    for name, figure in figures.items():
        fit_to_column(figure)
        written += [save_figure(figure, Path(folder) / f"{name}{end}") for end in suffixes]
    return written
