"""Classification of a job in parts, on this machine or on a Ray cluster."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from avser.cli.inputs import Inputs, nothing_there
from avser.errors import ConfigError, escape_controls

if TYPE_CHECKING:
    from avser.distributed.parts import Job


def classify_job(own: argparse.Namespace, files: Sequence[str]) -> int:
    """Classify what is not finished, then write the manifest and the files.

    Args:
        own: arguments of ``avser classify``.
        files: tables to write when all parts are there.

    Returns:
        1 if any input failed or parts of other shards are missing, otherwise 0.

    Raises:
        ConfigError: two options do not fit together.
    """
    _check(own)
    from avser.extras import require

    require("scale", "pyarrow")
    from avser.distributed.folder import Folder
    from avser.distributed.parts import PART_CLIPS, Job, Shard, rows_of
    from avser.inference.writers import write_rows

    folder = Folder(own.out)
    shard = None if own.shard is None else Shard.parse(own.shard)
    inputs = Inputs(own.paths, recursive=own.recursive, lists=own.list)
    drawn = iter(inputs)
    first = next(drawn, None)
    if first is None:
        raise nothing_there(own.paths or own.list)
    names = ("model", "modality", "faces", "detector", "features", "enrol")
    job = Job(
        folder,
        settings={name: getattr(own, name) for name in names},
        inputs=_readable(chain([first], drawn)),
        part_clips=own.part_clips or PART_CLIPS,
        shard=shard,
    )
    _note(own, f"{job.count} inputs in {len(job.parts)} parts, {len(job.todo)} to do.")
    try:
        _work(own, job)
    except KeyboardInterrupt:
        _note(own, f"interrupted; the same command goes on from {folder}.")
        raise
    manifest = job.finish()
    if manifest is None:
        _note(own, f"shard {own.shard} is finished; others are not.")
        return 0
    for name in files:
        write_rows(rows_of(folder, manifest.parts), name)
    summary = inputs.summary()
    _note(own, f"{summary}" if summary else None)
    _note(own, f"wrote {manifest.rows} rows in {folder}, {manifest.failed} of them errors.")
    return 1 if manifest.failed else 0


def _check(own: argparse.Namespace) -> None:
    """Refuse options that have no meaning for a job in parts."""
    if own.out is None:
        flag = "--shard" if own.shard is not None else "--engine ray"
        raise ConfigError(f"Bad {flag}: the rows need a folder; give --out DIR.")
    if own.part_clips is not None and own.part_clips < 1:
        raise ConfigError(f"Bad --part-clips {own.part_clips}: legal is 1 or more.")
    refused = {
        "--json": own.json, "--timeline": own.timeline, "--plot": own.plot,
        "--annotate": own.annotate,
    }  # fmt: skip
    for flag, value in refused.items():
        if value:
            raise ConfigError(
                f"Bad {flag}: a job with --out writes tables; leave it out, or use --csv or "
                "--parquet."
            )
    if own.shard is not None and own.engine == "ray":
        raise ConfigError("Bad --shard: Ray shares a job out itself; leave one of both out.")


def _readable(inputs: Iterator[str]) -> Iterator[str]:
    """Refuse standard input, which only one process can read."""
    for path in inputs:
        if path == "-":
            raise ConfigError("Bad input -: a job in parts can't read standard input; name files.")
        yield path


def _work(own: argparse.Namespace, job: "Job") -> None:
    from avser.cli.classify import settings_of
    from avser.cli.progress import counting
    from avser.distributed.classify import WORKER
    from avser.distributed.engine import Cluster, local, on_ray

    settings: dict[str, Any] = {
        **settings_of(own).to_dict(),
        "out": _absolute(own.out),
        "directory": os.getcwd(),
    }
    items = [{"name": part.name, "offset": part.offset} for part in job.todo]
    results: Iterator[Mapping[str, Any]]
    if own.engine == "ray":
        cluster = Cluster(own.address, own.actors, own.actor_cpus, own.actor_gpus)
        results = on_ray(WORKER, settings, items, cluster=cluster)
    else:
        results = local(WORKER, settings, items)
    with counting("parts") as progress:
        for done, row in enumerate(results, 1):
            job.record(row["name"], rows=row["rows"], failed=row["failed"])
            if not own.quiet:
                progress(done, len(items))


def _absolute(place: str) -> str:
    from avser.stores import is_url

    return place if is_url(place) else os.path.abspath(place)


def _note(own: argparse.Namespace, text: str | None) -> None:
    if text and not own.quiet:
        print(f"avser: {escape_controls(text)}", file=sys.stderr)
