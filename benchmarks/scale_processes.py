"""Processor time and memory of a process and all processes below it, as the kernel counts them."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_EVERY_S = 1.0  # a sample reads the files of some twenty processes


@dataclass
class Usage:
    """Processor time and memory of the processes below one; on Linux only.

    Attributes:
        cpu_s: processor time of all, by the seconds since the start.
        peak_mb: largest resident memory of each process, by its command.
        runnable_s: time that threads ran or waited for a core, without start-up of the last ones.
    """

    samples: list[tuple[float, float]] = field(default_factory=list)
    peak_mb: dict[str, float] = field(default_factory=dict)
    runnable_s: float = 0.0
    _cpu: dict[int, float] = field(default_factory=dict)
    _runnable: dict[str, float] = field(default_factory=dict)

    def sample(self, root: int) -> None:
        """Read the processes that run now."""
        for pid in descendants(root):
            with suppress(OSError, ValueError, IndexError, StopIteration):
                words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self._cpu[pid] = (int(words[11]) + int(words[12])) * _TICK_S
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                peak = int(next(x for x in status if x.startswith("VmHWM")).split()[1]) / 1024
                self.peak_mb[command] = max(peak, self.peak_mb.get(command, 0))
                for task in os.listdir(f"/proc/{pid}/task"):
                    ran, waited, _ = Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()
                    self._runnable[task] = (int(ran) + int(waited)) / 1e9
        self.samples.append((time.time(), sum(self._cpu.values())))
        self.runnable_s = sum(self._runnable.values())

    @property
    def cpu_s(self) -> float:
        """Processor time of all, in seconds."""
        return self.samples[-1][1] if self.samples else 0.0

    def between(self, start: float, end: float) -> float:
        """Processor seconds between two times of the clock."""
        return self._at(end) - self._at(start)

    def _at(self, moment: float) -> float:
        times, cpu = zip(*self.samples, strict=True)
        return float(np.interp(moment, times, cpu))

    def peak_of(self, words: str) -> float:
        """Largest memory, in MB, of a process whose command holds these words."""
        return max((mb for command, mb in self.peak_mb.items() if words in command), default=0.0)


def descendants(root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                words = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(words[1]), []).append(int(name))
    result = [root]
    for pid in result:
        result += children.get(pid, [])
    return result


@contextmanager
def watched(root: int, *, also: Callable[[], object] = lambda: None) -> Iterator[Usage]:
    """Sample the processes below one while the block runs; call ``also`` each time."""
    usage, ended = Usage(), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            usage.sample(root)
            also()
            ended.wait(_EVERY_S)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield usage
    finally:
        ended.set()
        thread.join()
