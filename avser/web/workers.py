"""Worker processes, and the queue before them.

Workers are processes because a hanging thread can't be ended: a file that hangs or crashes a
decoder fails its own request, and its worker is restarted.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock
from typing import Any, NoReturn, Protocol, overload

from avser.errors import AvserError
from avser.inference.live_window import LiveStep
from avser.web.jobs import (
    Classify,
    ClassifyLive,
    Job,
    JobResult,
    Model,
    Progress,
    Render,
    Reply,
    Report,
)
from avser.web.limits import BrokenError, LateError, Limits

_START_S = 300.0  # for a worker to load its model on a busy machine
_GRACE_S = 0.5  # after the deadline, for the worker's own error to arrive
_PROCESSES = multiprocessing.get_context("spawn")  # no fork: torch and FFmpeg have threads

_log = logging.getLogger(__name__)


class AnyJobHandler(Protocol):
    """Executes jobs in a worker; see `avser.web.job_handler.JobHandler`."""

    @property
    def models(self) -> tuple[Model, ...]:
        """Models that are loaded."""

    def __call__(self, job: Job, report: Report) -> Reply:
        """Do a job, and report its progress."""


HandlerFactory = Callable[[], AnyJobHandler]  # pickled: a function of a module, or a partial of one


def _run_worker(link: Connection, make: HandlerFactory, threads: int) -> None:
    """Main loop of a worker process; it returns when the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the server, which ends us
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
    try:
        handler = make()
    except AvserError as error:
        link.send(error)
        return
    link.send(handler.models)
    while True:
        try:
            job = link.recv()
        except (EOFError, OSError):
            return  # the server is gone
        reply: Any
        try:
            reply = handler(job, link.send)
        except AvserError as error:
            reply = error
        except Exception:
            _log.exception("A worker failed.")
            reply = BrokenError(
                "Bad clip: it made the worker fail; see the server's log, or convert the file to "
                "wav or mp4."
            )
        link.send(reply)


class Worker:
    """One process that executes one job at a time; it begins to start at once.

    Args:
        make: sets up the handler, in the process.
        limits: of the server.
        threads: of the arithmetic in the process.
    """

    def __init__(self, make: HandlerFactory, *, limits: Limits, threads: int = 1) -> None:
        self._make, self._limits, self._threads = make, limits, threads
        self._start()

    def _start(self) -> None:
        self._ready = False
        self._link, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(
            target=_run_worker, args=(theirs, self._make, self._threads), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def models(self) -> tuple[Model, ...]:
        """Wait until it is ready, and return the models that it has loaded.

        Raises:
            AvserError: the model can't be loaded.
        """
        try:
            result = self._receive(time.monotonic() + _START_S)
        except BrokenError as error:
            raise BrokenError(
                "Bad start: a worker ended while it loaded the model; give the server more memory, "
                "or a lower --concurrency."
            ) from error
        if isinstance(result, AvserError):
            raise result
        self._ready = True
        return tuple(result)

    def ask(self, job: Job, *, deadline: float, report: Report | None = None) -> Reply:
        """Do a job.

        Args:
            job: to do.
            deadline: of `time.monotonic`; a worker that is not done by then is ended and
                started again.
            report: called with the job's progress.

        Raises:
            LateError: it was not done in time.
            BrokenError: the process ended.
            AvserError: the handler raised it.
        """
        if not self._ready:  # started again a moment ago
            self._wait(deadline)
            self.models()
        try:
            self._link.send(job)
        except OSError:
            self._ended()
        while isinstance(reply := self._receive(deadline), Progress):
            if report is not None:
                report(reply)
        if isinstance(reply, AvserError):
            raise reply
        if not isinstance(reply, JobResult | LiveStep | bytes):
            raise BrokenError("Bad reply of a worker; try again.")
        return reply

    def _wait(self, deadline: float) -> None:
        if not self._link.poll(max(0.0, deadline - time.monotonic())):
            raise self._limits.too_late()

    def _receive(self, deadline: float) -> Any:  # noqa: ANN401 (what a pipe gives)
        try:
            self._wait(deadline)
            return self._link.recv()
        except LateError:
            self.restart()
            raise
        except (EOFError, OSError):
            self._ended()

    def _ended(self) -> NoReturn:
        self._process.join(1.0)
        code = self._process.exitcode
        self.restart()
        raise BrokenError(
            f"Bad clip: the worker that read it ended (exit code {code}); a damaged file or too "
            "little memory does that: convert it to wav or mp4, or send a shorter one."
        )

    def restart(self) -> None:
        """End the process and begin to start another."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the process."""
        self._link.close()
        self._process.kill()
        self._process.join()


class Workers:
    """Workers behind a queue of bounded length.

    Args:
        make: sets up the handler in each worker.
        limits: of the server.
    """

    def __init__(self, make: HandlerFactory, *, limits: Limits) -> None:
        self.limits, self.taken = limits, 0
        self._lock, count = Lock(), limits.concurrency
        threads = max(1, (os.cpu_count() or 1) // count)
        self._all = [Worker(make, limits=limits, threads=threads) for _ in range(count)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._waiting: list[Job] = []  # in the order in which workers will have them
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="avser-worker")
        self.models: tuple[Model, ...] = ()

    def wait(self) -> tuple[Model, ...]:
        """Wait until all workers are ready, and return the models that they have loaded.

        Raises:
            AvserError: the model can't be loaded.
        """
        try:
            for worker in self._all:
                self.models = worker.models()
                self._idle.put(worker)
        except AvserError:
            self.close()
            raise
        return self.models

    @property
    def alive(self) -> int:
        """Number of workers whose process runs."""
        return sum(worker.alive for worker in self._all)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place at a worker or in the queue, from the upload to the response.

        Raises:
            BusyError: there is none.
        """
        with self._lock:
            if self.taken >= self.limits.concurrency + self.limits.queue:
                raise self.limits.busy()
            self.taken += 1
        try:
            yield
        finally:
            with self._lock:
                self.taken -= 1

    @overload
    async def ask(
        self, job: Classify, *, deadline: float, report: Report | None = None
    ) -> JobResult: ...
    @overload
    async def ask(self, job: Render, *, deadline: float, report: Report | None = None) -> bytes: ...
    @overload
    async def ask(
        self, job: ClassifyLive, *, deadline: float, report: Report | None = None
    ) -> LiveStep: ...
    async def ask(self, job: Job, *, deadline: float, report: Report | None = None) -> Reply:
        """Do a job with the next free worker, off the event loop; see `Worker.ask`."""
        with self._lock:
            self._waiting.append(job)
        future = self._threads.submit(self._ask, job, deadline, report)
        try:
            left_s = deadline - time.monotonic() + _GRACE_S
            return await asyncio.wait_for(asyncio.wrap_future(future), left_s)
        except TimeoutError:
            raise self.limits.too_late() from None
        finally:
            self._leave_queue(job)

    def position(self, job: Job) -> int:
        """Place of a job in the queue, from 1; 0 once a worker has it."""
        with self._lock:
            return next((i for i, other in enumerate(self._waiting, 1) if other is job), 0)

    def _leave_queue(self, job: Job) -> None:
        with self._lock:
            self._waiting = [other for other in self._waiting if other is not job]

    def _ask(self, job: Job, deadline: float, report: Report | None) -> Reply:
        if time.monotonic() >= deadline:
            raise self.limits.too_late()
        worker = self._idle.get()
        self._leave_queue(job)
        try:
            return worker.ask(job, deadline=deadline, report=report)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End all workers."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._all:
            worker.close()
