"""Predictions as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from avser.emotions import VOCABULARY
from avser.inference.writers import COLUMNS, Row, cells_of

if TYPE_CHECKING:
    import pandas

#: Columns of a table of steps, before the emotions.
STEP_COLUMNS = ("path", "start_s", "end_s", "label", "probability", "error")
_NUMBERS = ("probability", "duration_s", "start_s", "end_s", *VOCABULARY)


def clips_frame(rows: Iterable[Row], *, emotions: Sequence[str]) -> pandas.DataFrame:
    """Make a table with one row a clip.

    Args:
        rows: as `Prediction.to_dict` gives them.
        emotions: that have a column.
    """
    columns = [name for name in COLUMNS if name not in VOCABULARY or name in emotions]
    return _frame(map(cells_of, rows), columns)


def timeline_frame(rows: Iterable[Row], *, emotions: Sequence[str]) -> pandas.DataFrame:
    """Make a table with one row a step; of a failed clip, one row with its error.

    Args:
        rows: as `Prediction.to_dict` gives them.
        emotions: that have a column.
    """
    return _frame((step for row in rows for step in _steps(row)), [*STEP_COLUMNS, *emotions])


def _steps(row: Row) -> Iterator[dict[str, Any]]:
    if "error" in row:
        yield {"path": row["path"], "error": row["error"]["message"]}
    for step in row.get("timeline", ()):
        shares = step["probabilities"] or {}
        yield {"path": row["path"], **step, **shares, "probability": shares.get(step["label"])}


def _frame(cells: Iterable[dict[str, Any]], columns: Sequence[str]) -> pandas.DataFrame:
    import pandas

    table = pandas.DataFrame(list(cells), columns=list(columns))
    return table.astype({name: "float64" for name in columns if name in _NUMBERS})
