"""Answers as rows of a table, a clip each."""

import csv
from collections.abc import Mapping, Sequence
from typing import IO, Any

Row = Mapping[str, Any]  # as `Prediction.to_dict` gives it, or path and error


def emotions_of(rows: Sequence[Row]) -> list[str]:
    """All emotions that the rows have probabilities of, in order of their first appearance."""
    return list(dict.fromkeys(n for row in rows for n in row.get("probabilities") or {}))


def write_csv(rows: Sequence[Row], file: IO[str]) -> None:
    """Write path, label, one probability a column, streams, reason, length, model and error."""
    names = emotions_of(rows)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["path", "label", *names, "modalities", "reason", "duration_s", "model", "error"]
    )
    for row in rows:
        shares = row.get("probabilities") or {}
        writer.writerow(
            [
                row["path"],
                row.get("label") or "",
                *(shares.get(n, "") for n in names),
                "+".join(row.get("modalities", ())),
                row.get("reason") or "",
                row.get("duration_s", ""),
                row.get("model", ""),
                row["error"]["message"] if "error" in row else "",
            ]
        )
