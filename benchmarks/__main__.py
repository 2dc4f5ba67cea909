"""``python -m benchmarks [NAME...] [--quick] [--json FILE]``."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from rich.console import Console

from avser.cli.pipes import until_reader_ends
from benchmarks.measure import Report

NAMES = (
    "startup",
    "features",
    "batch",
    "video",
    "video_stages",
    "training",
    "memory",
    "video_memory",
    "serve",
    "export",
    "scale",
    "scale_jobs",
    "scale_data",
)
TABLES = ("imports", "trace", "scale_table")  # of the code itself: no figure of a machine
_PACKAGES = (
    "avser",
    "torch",
    "av",
    "pytorch-lightning",
    "librosa",
    "soxr",
    "opencv-python-headless",
    "facenet-pytorch",
    "onnxruntime",
    "transformers",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that were named, or all; missed goals are shown, not failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in TABLES:
        code: int = import_module(f"benchmarks.{words[0]}").main(words[1:])
        return code
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join([*NAMES, *TABLES])}"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    parser.add_argument("--json", metavar="FILE", help="write all figures, with the machine's")
    own = parser.parse_args(words)
    if wrong := [name for name in own.names if name not in NAMES]:
        parser.error(f"Bad benchmark {wrong[0]!r}: expected one of {', '.join(NAMES)}.")
    # wide enough for every column where the output is no terminal
    console = Console() if sys.stdout.isatty() else Console(width=160)
    reports: dict[str, Report] = {}
    for name in own.names or NAMES:
        module = import_module(f"benchmarks.{name}")
        with console.status(f"measuring {name}"):
            reports[name] = module.measure(**(module.QUICK if own.quick else module.FULL))
        console.print(reports[name].table(), "")
    if own.json:
        _write(own.json, reports, quick=own.quick)
    goals = [r.goal.reached(r) for report in reports.values() for r in report.rows if r.goal]
    console.print(f"{sum(goals)} of {len(goals)} goals reached.")
    return 0


def machine() -> dict[str, Any]:
    """Conditions under which the figures hold."""
    from avser.training.run_folder import commit_of
    from benchmarks.measure import ROOT

    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
        model = names[0] if names else model
    except OSError:
        pass  # not Linux
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "commit": commit_of(ROOT),
    }


def _write(path: str, reports: dict[str, Report], *, quick: bool) -> None:
    from avser.files import atomic_write

    result = {
        "machine": machine(),
        "quick": quick,
        "benchmarks": {name: report.to_dict() for name, report in reports.items()},
    }
    with atomic_write(path) as file:
        file.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(until_reader_ends(main))
