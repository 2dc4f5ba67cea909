"""``avser features``: compute visual features of videos into a table."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.cli.inputs import Inputs, nothing_there
from avser.cli.parser import CommandParser
from avser.errors import ConfigError, escape_controls

if TYPE_CHECKING:
    from avser.inference.row_log import RowLog

KINDS = ("blendshapes", "action_units")

_COUNTED = 1_000  # inputs that are drawn beforehand, so that few have a bar with an end
_CHUNK = 8  # clips of an item on a cluster; some seconds of work


def parser() -> CommandParser:
    """Return the command's parser."""
    own = CommandParser(
        "features",
        "Compute visual features of videos into a table, to be used in place of a table of "
        "OpenFace's action units: 52 blendshapes a step of 0.512 s, by MediaPipe's face "
        "landmarker. After an interruption the same command goes on.",
    )
    own.add_argument("paths", nargs="*", metavar="PATH", help="files, folders with all below them, "
                     "patterns, addresses")  # fmt: skip
    own.add_argument("--list", metavar="FILE", action="append", default=[], help="text file with "
                     "one input a line, or a table with a column path")  # fmt: skip
    own.add_argument(
        "--with",
        dest="kind",
        choices=KINDS,
        default=KINDS[0],
        help="features; action_units: 15 of the blendshapes, named by their action units",
    )
    own.add_argument("--out", required=True, type=Path, metavar="TABLE.npz", help="the table")
    own.add_argument(
        "--landmarker",
        required=True,
        type=Path,
        metavar="face_landmarker.task",
        help="MediaPipe's model file",
    )
    own.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: spread the "
                     "clips over a cluster")  # fmt: skip
    own.add_argument(
        "--address",
        metavar="HOST:PORT|auto",
        help="of a running Ray cluster; without it, one is started on this machine",
    )
    own.add_argument("--actors", type=int, metavar="N", help="with ray: largest number of worker "
                     "processes; by default as many as there is room for")  # fmt: skip
    return own


def run(words: Sequence[str]) -> int:
    """Write the table; list files without features, and return 1 if there are any."""
    command = parser()
    own = command.parse_args(list(words))
    if own.out.suffix != ".npz":
        raise ConfigError(f"Bad --out {own.out}: expected a name that ends in .npz.")
    if not own.paths and not own.list:
        command.error("give PATH or --list FILE")
    from avser.cli.progress import counting
    from avser.inference.row_log import RowLog, log_path
    from avser.media import blendshapes

    inputs = Inputs(own.paths, recursive=True, lists=own.list)
    drawn = iter(inputs)
    first = list(islice(drawn, _COUNTED))
    if not first:
        raise nothing_there(own.paths or own.list)
    total = len(first) if len(first) < _COUNTED else 0
    landmarker = blendshapes.MediaPipeLandmarker(own.landmarker)
    names = tuple(landmarker.names)
    landmarker.close()
    settings = {"features": "blendshapes", "landmarker": own.landmarker.name}
    done = 0
    with RowLog(log_path(own.out), settings=settings) as log:
        try:
            with counting("clips") as progress:
                for result in _work(own, _todo(chain(first, drawn), log)):
                    for place, row in zip(result["places"], result["rows"], strict=True):
                        log.add(place, row)
                    done += len(result["rows"])
                    progress(done, total or done)
        except KeyboardInterrupt as error:
            raise type(error)(f"interrupted; the same command goes on from {log.path}.") from error
        failed = _write(own, names, log)
        log.remove()
    if (summary := inputs.summary()) is not None:
        print(f"avser: {escape_controls(summary)}", file=sys.stderr)
    for reason in failed:
        print(f"left out: {reason}")
    return 1 if failed else 0


def _todo(inputs: Iterator[str], log: "RowLog") -> Iterator[tuple[int, str]]:
    """Inputs without a row, with their places in the log.

    Raises:
        ConfigError: two files have one name.
    """
    from avser.distributed.features import key_of

    seen: set[int] = set()
    for path in inputs:
        key = hash(key_of(path))
        if key in seen:
            raise ConfigError(
                f"Bad names: {key_of(path)} is the name of several files, and rows are named by "
                "it; give folders in which every name is there once."
            )
        seen.add(key)
        if not log.keep(path):
            yield log.reserve(), path


def _work(own: Namespace, todo: Iterator[tuple[int, str]]) -> Iterator[Mapping[str, Any]]:
    """Compute the rows of inputs, here one at a time as they are drawn."""
    from avser.distributed.engine import Cluster, local, on_ray
    from avser.distributed.features import WORKER

    settings = {"landmarker": str(own.landmarker.absolute()), "directory": os.getcwd()}
    items = _items(todo, _CHUNK if own.engine == "ray" else 1)
    if own.engine == "local":
        return local(WORKER, settings, items)
    return on_ray(WORKER, settings, list(items), cluster=Cluster(own.address, own.actors))


def _items(todo: Iterator[tuple[int, str]], size: int) -> Iterator[dict[str, Any]]:
    while part := list(islice(todo, size)):
        yield {"places": [place for place, _ in part], "paths": [path for _, path in part]}


def _write(own: Namespace, names: tuple[str, ...], log: "RowLog") -> list[str]:
    """Write the table; return why files are left out."""
    from avser.distributed.features import features_of_row, key_of
    from avser.media.blendshapes import FeatureTable, action_units

    rows, failed = {}, []
    for row in log.rows():
        if "error" in row:
            failed.append(row["error"]["message"])
        else:
            rows[key_of(row["path"])] = features_of_row(row, width=len(names))
    table = FeatureTable(names, rows)
    if own.kind == "action_units":
        table = action_units(table)
    table.save(own.out)
    steps = sum(len(row.values) for row in rows.values())
    print(f"{own.out}: {len(table.names)} values of {steps} steps in {len(rows)} clips")
    return failed
