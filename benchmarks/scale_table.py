"""``python -m benchmarks scale_table [FILE] [--write]``: the tables that rest on the scale rows.

A million clips on 10 to 1,000 cores: time is start-up and planning, and then what the slowest of
the cores, the network and the store needs. Rates are those of one core in ``results/scale.json``,
as the engine had them: nothing is taken off or added.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from avser.distributed.parts import PART_CLIPS
from avser.files import atomic_write
from benchmarks.measure import ROOT, figure
from benchmarks.scale import PLANNING, RATE, SIZE, SOUND, START, VIDEO

CLIPS = 1_000_000
CORES = (10, 100, 1_000)
_ROWS = (RATE, SIZE, START)  # of each kind
RESULTS = ROOT / "results" / "scale.json"
GUIDE, SPEED = ROOT / "docs/guides/scale.md", ROOT / "docs/results/speed.md"

# Assumptions: what the table rests on and no run on one machine measures.
NETWORK = 10e9 / 8  # bytes a second into the cluster
STORE = 5_500  # reads a second that S3 allows for a prefix

REQUESTS = 2  # of a clip in a store: its size, and its bytes


@dataclass(frozen=True)
class Kind:
    """Measured rates of one kind of clips.

    Attributes:
        name: of the kind.
        rate: clips a second of processor time.
        size: of a clip, in bytes.
        start_s: from the command to the first part.
        plan_s: of an input, in the one process that cuts the job.
    """

    name: str
    rate: float
    size: float
    start_s: float
    plan_s: float

    def limits(self, cores: int) -> dict[str, float]:
        """Clips a second that each resource allows; cores take whole parts."""
        parts = ceil(CLIPS / PART_CLIPS)
        busy = parts / ceil(parts / cores)  # cores on average: the last parts leave some idle
        return {
            "cores": busy * self.rate,
            "network": NETWORK / self.size,
            "store": STORE / REQUESTS,
        }

    def saturation(self) -> dict[str, float]:
        """Number of cores that each resource feeds."""
        rates = {name: rate for name, rate in self.limits(1).items() if name != "cores"}
        return {name: rate / self.rate for name, rate in rates.items()}

    def line(self, cores: int) -> str:
        """Row of a table: a million clips on so many cores."""
        limits = self.limits(cores)
        limit = min(limits, key=lambda name: limits[name])
        before, work = self.start_s + CLIPS * self.plan_s, CLIPS / limits[limit]
        cells = (self.name, f"{cores:,}", duration(before), duration(work), limit,
                 duration(before + work), f"{cores * (before + work) / 3600:.1f}")  # fmt: skip
        return f"| {' | '.join(cells)} |"


def kinds(results: Mapping[str, Any]) -> list[Kind]:
    """Results of ``python -m benchmarks scale``, by kind of clips.

    Raises:
        ValueError: a row is missing.
    """
    rows = results.get("benchmarks", {}).get("scale", {}).get("rows", [])
    values = {row["ours"]: row["value"] for row in rows}
    wanted = [t.format(kind=k) for k in (SOUND, VIDEO) for t in _ROWS] + [PLANNING]
    if missing := [name for name in wanted if name not in values]:
        raise ValueError(
            f"Bad results: there is no row {missing[0]!r}; measure it with python -m benchmarks "
            f"scale --json {RESULTS.relative_to(ROOT)}."
        )
    made = []
    for name in (SOUND, VIDEO):
        rate, size, start_s = (values[row.format(kind=name)] for row in _ROWS)
        made.append(Kind(name, rate, size * 1_000, start_s, values[PLANNING] / 1e6))
    return made


def million(results: Mapping[str, Any]) -> str:
    """Tables of the guide: time and core hours of a million clips, and saturation."""
    made = kinds(results)
    planning = f"{CLIPS * made[0].plan_s:.0f} s"
    lines = [
        "| a million clips | cores | start-up | work | limited by | time | core hours |",
        "|---|---|---|---|---|---|---|",
        *(kind.line(cores) for kind in made for cores in CORES),
        "",
        f"| of one core | {' | '.join(kind.name for kind in made)} |",
        f"|---|{'---|' * len(made)}",
        _row("clips a second", [figure(kind.rate) for kind in made]),
        _row("size of a clip", [f"{figure(kind.size / 1_000)} kB" for kind in made]),
        _row("start of the engine and its models", [duration(k.start_s) for k in made]),
        _row("planning a million inputs, in one process", [planning] * len(made)),
        _row(
            f"cores that {NETWORK * 8 / 1e9:.0f} Gbit/s feed",
            [f"{kind.saturation()['network']:,.0f}" for kind in made],
        ),
        _row(
            f"cores that one prefix of S3 feeds: {STORE:,} reads a second, {REQUESTS} a clip",
            [f"{kind.saturation()['store']:,.0f}" for kind in made],
        ),
        _row(
            f"cores that have a part, of {PART_CLIPS} clips",
            [f"{ceil(CLIPS / PART_CLIPS):,}"] * len(made),
        ),
    ]
    return "\n".join(lines)


def measured(results: Mapping[str, Any]) -> str:
    """Table of all rows, with the conditions of each benchmark."""
    lines = ["| measured | against | ratio | goal | reached |", "|---|---|---|---|---|"]
    for benchmark in results["benchmarks"].values():
        for row in benchmark["rows"]:
            note = f" ({row['note']})" if "note" in row else ""
            cells = [f"{row['ours']}: {_value(row, 'value')}{note}"]
            against = "other" in row
            cells.append(f"{row['alternative']}: {_value(row, 'other')}" if against else "")
            cells.append(f"{row['ratio']:.2f} ×" if row["ratio"] is not None else "")
            cells += [row.get("goal", ""), {True: "yes", False: "no"}.get(row.get("reached"), "")]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"Conditions: {b['conditions']}." for b in results["benchmarks"].values())]
    size = "small sizes (`--quick`)" if results["quick"] else "full sizes"
    machine = results["machine"]
    lines += [f"Measured in {size} on {machine['cores']} cores of an {machine['processor']}."]
    return "\n".join(lines)


def _value(row: Mapping[str, Any], name: str) -> str:
    return f"{figure(row[name])} {row['unit']}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def duration(seconds: float) -> str:
    """Seconds in a unit that has two digits or three.

    >>> duration(19.4), duration(1_900), duration(100_000)
    ('19 s', '32 min', '27.8 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3600:.1f} h"


#: Which page has which table, between comments that name it.
PAGES = {GUIDE: ("million", million), SPEED: ("measured", measured)}


def written(text: str, name: str, table: str) -> str:
    """A page with a table in the place that its comments mark.

    Raises:
        ValueError: the page has no such place.
    """
    begin, end = f"<!-- scale_table: {name} -->", f"<!-- end: {name} -->"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"Bad page: it has no {begin} with its end; add them.")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def main(arguments: Sequence[str] = ()) -> int:
    """Print the tables, or write them into their pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale_table", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS, help="of scale --json")
    parser.add_argument("--write", action="store_true", help="replace the tables of the pages")
    own = parser.parse_args(arguments)
    try:
        results = json.loads(own.file.read_text(encoding="utf-8"))
        tables = {page: make(results) for page, (_, make) in PAGES.items()}
        if own.write:
            _write(tables)
        else:
            print("\n\n".join(tables.values()))
    except BrokenPipeError:
        raise  # nobody reads the tables any more
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


def _write(tables: Mapping[Path, str]) -> None:
    for page, table in tables.items():
        content = written(page.read_text(encoding="utf-8"), PAGES[page][0], table)
        with atomic_write(page) as file:
            file.write(content)
        print(f"wrote a table in {page.relative_to(ROOT)}")
