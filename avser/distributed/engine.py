"""Engines that process the items of a job: in this process, or on a Ray cluster.

A worker is a class that is built from plain settings and turns a plain item into a plain result;
it is named ``module:Class``, so that any process can build it. `local` works in this process,
`on_ray` on a Ray cluster: there each actor holds one worker, items of an actor or a node that
dies are given to others, and results arrive in any order.

Ray runs in a process of its own (`avser.distributed.ray_driver`): it ends its process where a
cluster goes away, writes to its output, and leaves threads behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Protocol

from avser.errors import AvserError, ClusterError, ConfigError
from avser.extras import require

ENGINES = ("local", "ray")

Item = Mapping[str, Any]


class Worker(Protocol):
    """Works on one item after another."""

    def __call__(self, item: Item, /) -> Mapping[str, Any]:
        """Return the result of an item; doing it again must do no harm."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what each actor takes of it.

    Attributes:
        address: of a running cluster, "auto" for the one of this machine; None starts one here.
        actors: most actors; None is as many as there is room for.
        cpus: cores of an actor.
        gpus: GPUs of an actor; a share such as 0.25 lets four have one.

    Raises:
        ConfigError: a number is out of its range.
    """

    address: str | None = None
    actors: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.cpus <= 0 or self.gpus < 0 or (self.actors is not None and self.actors < 1):
            raise ConfigError(
                f"Bad actors (number {self.actors}, cores {self.cpus:g}, GPUs {self.gpus:g}): at "
                "least one actor, cores above 0 and GPUs from 0 are legal."
            )


def build(worker: str, settings: Mapping[str, Any]) -> Worker:
    """Build the worker of a name, ``module:Class``."""
    module, _, name = worker.partition(":")
    made: Worker = getattr(import_module(module), name)(settings)
    return made


def local(
    worker: str, settings: Mapping[str, Any], items: Iterable[Item]
) -> Iterator[Mapping[str, Any]]:
    """Work on items one after another in this process, as they are drawn."""
    made: Worker | None = None
    for item in items:
        made = made or build(worker, settings)
        yield made(item)


def on_ray(
    worker: str, settings: Mapping[str, Any], items: Sequence[Item], *, cluster: Cluster
) -> Iterator[Mapping[str, Any]]:
    """Work on items on a cluster; results come in the order in which they are finished.

    Raises:
        ClusterError: the cluster can't be reached, has no room for an actor, or went away.
        AvserError: a worker raised one; other items may be finished.
    """
    if not items:
        return
    require("scale", "ray", "pyarrow")
    job = {"worker": worker, "settings": dict(settings), "cluster": asdict(cluster)}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "avser.distributed.ray_driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the other
        )
        finished = 0
        try:
            assert driver.stdin is not None and driver.stdout is not None
            driver.stdin.write("".join(json.dumps(line) + "\n" for line in (job, *items, None)))
            driver.stdin.flush()
            for line in driver.stdout:
                row = json.loads(line)
                if "error" in row:
                    raise _error(row["error"])
                finished += 1
                yield row["result"]
            driver.wait()
            if finished < len(items):
                log.seek(0)
                raise _gone(cluster, finished, len(items), log.read())
        except BrokenPipeError:
            driver.wait()
            log.seek(0)
            raise _gone(cluster, finished, len(items), log.read()) from None
        finally:
            _end(driver)


def _end(driver: subprocess.Popen[str]) -> None:
    """Close the driver's input, upon which it ends itself and a cluster that it started."""
    for stream in (driver.stdin, driver.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                pass
    try:
        driver.wait(timeout=20)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()


def _error(error: Mapping[str, str]) -> AvserError:
    """The error that a worker or the driver raised, by the name of its class."""
    from avser import errors

    kind = getattr(errors, error["type"], AvserError)
    made: AvserError = (kind if issubclass(kind, AvserError) else AvserError)(error["message"])
    return made


def _gone(cluster: Cluster, finished: int, count: int, log: str) -> ClusterError:
    where = "on this machine" if cluster.address is None else cluster.address
    last = (log.strip().splitlines() or ["no message"])[-1][-300:]
    return ClusterError(
        f"Bad cluster {where}: it went away with {finished} of {count} items finished "
        f"({last.rstrip('.')}); start it again, then run the same command: what is finished is "
        "kept."
    )
