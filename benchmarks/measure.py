"""Timing in turn, child processes, and what a benchmark reports."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Goal:
    """Target: a ratio of at least so much, or a value within a limit."""

    kind: Literal["ratio", "at least", "at most"]
    limit: float

    def reached(self, row: "Row") -> bool:
        """Whether the row is within the limit."""
        if self.kind == "ratio":
            return row.ratio is not None and row.ratio >= self.limit
        if self.kind == "at least":
            return row.value >= self.limit
        return row.value <= self.limit

    def __str__(self) -> str:
        if self.kind == "ratio":
            return f"≥ {self.limit:g} ×"
        return f"{'≥' if self.kind == 'at least' else '≤'} {figure(self.limit)}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        ours: what was measured.
        value: its median.
        unit: of both values.
        alternative: what it is compared with.
        other: the alternative's median; None where the row is absolute.
        more_is_better: rates, rather than times and sizes.
        goal: what is to be reached, or None.
        note: how a value was come by, if not by plain measuring.
    """

    ours: str
    value: float
    unit: str
    alternative: str = ""
    other: float | None = None
    more_is_better: bool = False
    goal: Goal | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ratio by which ours is better; under 1 it is worse."""
        if self.other is None or not self.value or not self.other:
            return None
        return self.value / self.other if self.more_is_better else self.other / self.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the ratio and whether the goal is reached."""
        result = {k: v for k, v in asdict(self).items() if k != "goal" and v not in ("", None)}
        result["ratio"] = None if self.ratio is None else round(self.ratio, 3)
        if self.goal is not None:
            result |= {"goal": str(self.goal), "reached": self.goal.reached(self)}
        return result


@dataclass(frozen=True)
class Report:
    """Rows of one benchmark, and under which conditions they were measured."""

    title: str
    conditions: str
    rows: Sequence[Row]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "title": self.title,
            "conditions": self.conditions,
            "rows": [row.to_dict() for row in self.rows],
        }

    def table(self) -> Table:
        """Return the table that is printed."""
        table = Table(title=self.title, caption=self.conditions, title_justify="left")
        for name in ("measured", "alternative"):
            table.add_column(name, ratio=3)
        for name in ("value", "its value", "ratio", "goal"):
            table.add_column(name, justify="right")
        table.add_column("reached")
        for row in self.rows:
            verdict = ""
            if row.goal is not None:
                verdict = "[green]yes[/green]" if row.goal.reached(row) else "[red]no[/red]"
            table.add_row(
                row.ours + (f" ({row.note})" if row.note else ""),
                row.alternative,
                f"{figure(row.value)} {row.unit}",
                "" if row.other is None else f"{figure(row.other)} {row.unit}",
                "" if row.ratio is None else f"{row.ratio:.2f} ×",
                "" if row.goal is None else str(row.goal),
                verdict,
            )
        return table


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def in_turn(
    runs: Mapping[str, Callable[[], object]], *, repeats: int, warm: bool = True
) -> dict[str, list[float]]:
    """Time each run in seconds: A B A B, so that a busy minute troubles all alike.

    Args:
        runs: by name.
        repeats: rounds that are timed.
        warm: run each once before, untimed (compilation, file cache).
    """
    if warm:
        for run in runs.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def medians(times: Mapping[str, Sequence[float]], *, per: float = 1.0) -> dict[str, float]:
    """Median of each run's times, divided by ``per``."""
    return {name: statistics.median(values) / per for name, values in times.items()}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch, BLAS and OpenMP use so many threads each, and give back what was before."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    try:
        with threadpool_limits(count):
            torch.set_num_threads(count)
            yield
    finally:
        torch.set_num_threads(before)


def thread_environment(count: int) -> dict[str, str]:
    """Environment of a child process that is to use so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(count))}


def child(
    module: str, *arguments: object, count: int, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run ``python -m benchmarks.<module>`` with ``count`` threads; return the JSON it prints last.

    Raises:
        RuntimeError: it failed; the message holds the end of its output.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**thread_environment(count), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Bad child benchmarks.{module}: {done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
