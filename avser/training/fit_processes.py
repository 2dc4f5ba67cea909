"""``avser fit`` in other processes: a pool that reuses them, or one process a training."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

_QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")


def fit_in_process(words: Sequence[str], folder: Path, *, threads: int) -> str | None:
    """Run ``avser fit`` in a process of its own; return why it failed, or None.

    Args:
        words: command line without ``--out``.
        folder: of the run.
        threads: of arithmetic in the process.
    """
    command = [sys.executable, "-m", "avser", "fit", *words, "--out", str(folder), *_QUIET]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1]
    return None


@contextmanager
def cancelled_early(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Cancel the pending work of a pool if the block raises."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


class FitProcesses:
    """Pool of processes that run one ``avser fit`` after another; thread-safe.

    Starting a process takes seconds, so each is reused. A process that dies is replaced, and all
    end with this one, even if it is killed.

    Args:
        count: largest number of processes.
        threads: of arithmetic in each.
    """

    def __init__(self, *, count: int, threads: int) -> None:
        self._idle: SimpleQueue[_FitProcess] = SimpleQueue()
        self._all = [_FitProcess(threads) for _ in range(count)]
        for process in self._all:
            self._idle.put(process)

    def fit(self, words: Sequence[str], folder: Path) -> str | None:
        """Train into a run folder; return why it failed, or None."""
        process = self._idle.get()
        try:
            return process.fit([*words, "--out", str(folder), *_QUIET])
        finally:
            self._idle.put(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._all:
            process.close()


class _FitProcess:
    """One process of `avser.cli.fit_worker`, started when it is first needed."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._errors: IO[bytes] = TemporaryFile()
        self._process: subprocess.Popen[str] | None = None

    def fit(self, words: Sequence[str]) -> str | None:
        """Run one training; return the last line on its stderr where it failed."""
        if self._process is not None and self._process.poll() is not None:
            self.end()  # it died while it was idle
        process = self._process or self._start()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._errors.seek(0)
        self._errors.truncate()  # the process writes at the same offset
        with suppress(BrokenPipeError):  # no reply follows then
            process.stdin.write(json.dumps(list(words)) + "\n")
            process.stdin.flush()
        reply = process.stdout.readline()
        code, again = json.loads(reply) if reply else (1, False)
        if not again:
            process.wait()
            self.end()
        if not code:
            return None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the training ended with code {process.returncode or code}"

    def _start(self) -> "subprocess.Popen[str]":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "avser.cli.fit_worker"],
            env={**os.environ, "OMP_NUM_THREADS": str(self._threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        return self._process

    def end(self) -> None:
        """End the process; a running training stops, and can be resumed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def close(self) -> None:
        """End the process for good."""
        self.end()
        self._errors.close()
