"""Provenance and history of a run folder."""

import subprocess
from csv import DictReader
from pathlib import Path

STOP = "STOP"  # a file of that name in a run folder ends its training after the epoch


def commit_of(folder: Path) -> str | None:
    """Commit of a checkout, with ``+`` if it was changed; None outside of one."""
    try:
        show = ["git", "-C", str(folder), "describe", "--always", "--exclude=*", "--dirty=+"]
        return subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def epoch_tables(folder: Path) -> list[Path]:
    """Tables of epochs, one for each start of the training, oldest first."""
    tables = (folder / "logs").glob("start*/metrics.csv")
    return sorted(tables, key=lambda p: int(p.parent.name.removeprefix("start")))


def history(folder: Path) -> dict[str, list[float]]:
    """Training curves of a run: ``train/loss``, ``validation/uar``, ... one value an epoch."""
    curves: dict[str, dict[int, float]] = {}
    for path in epoch_tables(folder):
        with path.open(newline="", encoding="utf-8") as file:
            for row in DictReader(file):
                for key, value in row.items():
                    if value and "/" in key:
                        curves.setdefault(key, {})[int(row["epoch"])] = float(value)
    return {k: [v[e] for e in sorted(v)] for k, v in curves.items()}
