"""The process that runs Ray: items on standard input, results on standard output.

Started by `avser.distributed.engine.on_ray`. Both ways it is JSON, a line a value: the job, its
items, null; then ``{"result": ...}`` for each item, or ``{"error": {"type", "message"}}``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import IO, Any

from avser.distributed.engine import Cluster, Worker, build
from avser.errors import AvserError, ClusterError, ConfigError

_OBJECT_STORE = 200 << 20  # bytes: items and results are small
_STARTS = 3  # attempts
_RECONNECT_S = "15"  # how long a cluster that does not answer is waited for


class Actor:
    """Holds one worker; what it raises on purpose is a result like others.

    Args:
        worker: see `avser.distributed.engine.build`.
        settings: of the worker, as JSON.
    """

    def __init__(self, worker: str, settings: str) -> None:
        self._name, self._settings = worker, settings
        self._worker: Worker | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Work on a batch of one item."""
        return {"line": [self._line(json.loads(text)) for text in batch["item"]]}

    def _line(self, item: Mapping[str, Any]) -> str:
        try:
            if self._worker is None:
                self._worker = build(self._name, json.loads(self._settings))
            return json.dumps({"result": self._worker(item)})
        except (AvserError, OSError) as error:
            return _error_line(error)


def _error_line(error: Exception) -> str:
    return json.dumps({"error": {"type": type(error).__name__, "message": str(error)}})


def _connect(cluster: Cluster) -> None:
    """Connect to a cluster, or start one of this machine.

    Raises:
        ClusterError: there is none, or it has no room for an actor.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if cluster.address is None:
            _start(cluster, quiet)
        else:
            ray.init(address=cluster.address, **quiet)
    except Exception as error:  # Ray's own classes, and plain ones where a start takes too long
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ClusterError(
            f"Can't start Ray on this machine: {reason}; use --engine local."
            if cluster.address is None
            else f"Bad --address {cluster.address}: no Ray cluster answers there ({reason}); start "
            "one with ray start --head, or leave the option out."
        ) from error
    room = _room()
    for name, need in (("CPU", cluster.cpus), ("GPU", cluster.gpus)):
        if need > room.get(name, 0):
            raise ClusterError(
                f"Bad actors: each takes {need:g} {name}, and the cluster has "
                f"{room.get(name, 0):g}; ask for fewer."
            )


def _start(cluster: Cluster, quiet: Mapping[str, Any]) -> None:
    """Start a cluster of this machine; Ray gives a node half a minute, too little on a busy one."""
    import ray

    for left in reversed(range(_STARTS)):
        try:
            ray.init(
                address="local",  # not one that happens to run here
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                num_cpus=max(os.cpu_count() or 1, int(cluster.cpus)),
                **quiet,
            )
            return
        except Exception:  # Ray's own classes, and plain ones where it takes too long
            ray.shutdown()
            if not left:
                raise


def _room() -> dict[str, float]:
    """Resources of the whole cluster, by name."""
    import ray

    room: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return room


def _results(job: Mapping[str, Any], items: list[str], cluster: Cluster) -> Iterator[str]:
    """Lines of results, as they are finished."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    room = _room()
    fit = int(room.get("CPU", 1) // cluster.cpus)
    if cluster.gpus:
        fit = min(fit, int(room.get("GPU", 0) / cluster.gpus))
    actors = max(1, min(len(items), cluster.actors or fit))
    source = ray.data.from_items([{"item": i} for i in items], override_num_blocks=len(items))
    data = source.map_batches(
        Actor,
        fn_constructor_args=(job["worker"], json.dumps(job["settings"])),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus or None,
    )
    for row in data.iter_rows():
        yield row["line"]


def _watch(stream: IO[str]) -> None:
    """End when the process that wants the results has ended, or closes this one's input."""
    stream.read()
    import ray

    ray.shutdown()
    os._exit(1)


def main() -> int:
    """Work on the job of standard input."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_worker_niceness", "0")  # as --engine local; Ray's own is 15
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", _RECONNECT_S)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints is no result
    job = json.loads(sys.stdin.readline())
    items = []
    while (line := sys.stdin.readline().strip()) != "null":
        items.append(line)
    threading.Thread(target=_watch, args=(sys.stdin,), daemon=True).start()
    cluster = Cluster(**job["cluster"])
    try:
        _connect(cluster)
        for result in _results(job, items, cluster):
            print(result, file=out, flush=True)
    except AvserError as error:
        print(_error_line(error), file=out, flush=True)
    except Exception as error:
        if _connected():  # without a cluster, the process that reads the results says so
            reason = " ".join(str(error).split())[-300:]
            wrong = ConfigError(f"Bad job: {type(error).__name__} in an actor: {reason}.")
            print(_error_line(wrong), file=out, flush=True)
        raise
    return 0


def _connected() -> bool:
    """Whether the cluster still answers."""
    try:
        return bool(_room())
    except Exception:  # Ray's own classes, of which each kind of loss has another
        return False


if __name__ == "__main__":
    sys.exit(main())
