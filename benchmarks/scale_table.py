"""``python -m benchmarks scale_table [FILE]``: a million clips on 10 to 1,000 cores, computed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT

CLIPS = 1_000_000
CORES = (10, 100, 1_000)


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table of the guide, from what ``python -m benchmarks scale --json`` wrote."""
    path = Path(arguments[0]) if arguments else ROOT / "results" / "scale.json"
    print("\n".join(table(json.loads(path.read_text(encoding="utf-8")))))
    return 0


def table(results: Mapping[str, Any]) -> list[str]:
    """Lines of the table, by engine: time without start-up, and core hours."""
    rows = results["benchmarks"]["scale"]["rows"]
    row = next(r for r in rows if "processor time" in r["ours"])
    lines = [
        f"| a million clips | {' | '.join(f'{cores:,} cores' for cores in CORES)} | core hours |",
        f"|---|{'---|' * (len(CORES) + 1)}",
    ]
    for name, rate in (("--engine ray", row["value"]), ("--shard I/N", row["other"])):
        times = [_time(CLIPS / rate / cores) for cores in CORES]
        lines.append(f"| `{name}` | {' | '.join(times)} | {CLIPS / rate / 3600:.1f} |")
    return lines


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
