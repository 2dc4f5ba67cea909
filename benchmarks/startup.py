"""Start-up time of the command line, against importing torch alone."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Goal, Report, Row, in_turn, medians, thread_environment

FULL = {"repeats": 11}
QUICK = {"repeats": 3}
TORCH = 'python -c "import torch"'


def command() -> list[str]:
    """The installed ``avser``, or the module where there is no script."""
    script = Path(sys.executable).parent / "avser"
    return [str(script)] if script.exists() else [sys.executable, "-m", "avser"]


def start(words: Sequence[str]) -> None:
    """Run a command to its end, unseen."""
    subprocess.run(list(words), env=thread_environment(1), stdout=subprocess.DEVNULL, check=True)


def measure(*, repeats: int) -> Report:
    """Time the help of commands that must not load torch."""
    runs = {
        TORCH: lambda: start([sys.executable, "-c", "import torch"]),
        "avser --help": lambda: start([*command(), "--help"]),
        "avser classify --help": lambda: start([*command(), "classify", "--help"]),
    }
    times = medians(in_turn(runs, repeats=repeats))
    return Report(
        "startup: first words of the command line",
        f"whole processes, files cached; 1 thread each; median of {repeats}",
        rows(times),
    )


def rows(times: dict[str, float]) -> list[Row]:
    """Compare each command with the import; ``times`` are seconds."""
    return [
        Row(
            ours=name,
            value=value,
            unit="s",
            alternative=TORCH,
            other=times[TORCH],
            goal=Goal("at most", 0.3),
        )
        for name, value in times.items()
        if name != TORCH
    ]
