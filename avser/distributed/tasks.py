"""Trainings and preparation on a cluster: workers of `avser.distributed.engine`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from weakref import finalize

from avser.data.rows import clip_from_dict, clip_to_dict
from avser.distributed.engine import Cluster, on_ray
from avser.distributed.folder import Folder
from avser.distributed.shards import (
    RunPlans,
    ShardPlan,
    plan_of_dict,
    plan_to_dict,
    write_shard,
)
from avser.errors import AvserError
from avser.training.crossval import FitJob, RunJobs
from avser.training.fit_processes import FitProcesses
from avser.types import Clip

_CHUNK = 64  # clips that are prepared at once


class FitWorker:
    """Trains in a process of its own, as on one machine.

    That process ends with this one, so that a training that is given to another worker is not
    continued here, too.

    Args:
        settings: ``directory`` that relative paths begin at, ``threads`` of a training.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        os.chdir(settings["directory"])
        stack = ExitStack()
        processes = FitProcesses(count=1, threads=int(settings["threads"]))
        self._processes = stack.enter_context(processes)
        finalize(self, stack.close)

    def __call__(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """Train with ``words`` in ``folder``; return its ``place`` and ``problem``."""
        problem = self._processes.fit(item["words"], Path(item["folder"]))
        return {"place": item["place"], "problem": problem}


def fit_on_ray(cluster: Cluster) -> RunJobs:
    """Trainings on a cluster whose machines share the disk of the run folders."""

    def run(jobs: Sequence[FitJob]) -> Iterator[tuple[int, str | None]]:
        items = [
            {"place": place, "words": list(job.words), "folder": str(job.folder.absolute())}
            for place, job in enumerate(jobs)
        ]
        settings = {"directory": os.getcwd(), "threads": max(1, round(cluster.cpus))}
        for row in on_ray(f"{__name__}:FitWorker", settings, items, cluster=cluster):
            yield int(row["place"]), row["problem"]

    return run


class PrepareWorker:
    """Decodes clips into the cache.

    Args:
        settings: ``directory`` that relative paths begin at, ``folder`` of the cache, and
            whether to look for ``faces``.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        os.chdir(settings["directory"])
        self._folder, self._faces = Path(settings["folder"]), bool(settings["faces"])

    def __call__(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """Prepare the ``clips``; what fails is found again by the process that asked."""
        from avser.data.audio_cache import prepare
        from avser.data.face_cache import prepare_faces

        clips = [clip_from_dict(values) for values in item["clips"]]
        problem = None
        try:
            prepare(clips, folder=self._folder, workers=1)
            if self._faces:
                prepare_faces(clips, folder=self._folder)
        except AvserError as error:  # none of these clips has sound or a face
            problem = str(error)
        return {"clips": len(clips), "problem": problem}


def prepare_on_ray(
    clips: Sequence[Clip],
    *,
    cluster: Cluster,
    faces: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fill the cache from a cluster whose machines share its disk and the corpus's.

    Args:
        clips: rows of a corpus.
        cluster: that decodes.
        faces: whether to look for faces, too.
        progress: called as ``(done, total)``.
    """
    from avser.data.content import cache_folder

    settings = {
        "directory": os.getcwd(), "folder": str(cache_folder().absolute()), "faces": faces,
    }  # fmt: skip
    items = [
        {"clips": [clip_to_dict(clip) for clip in clips[start : start + _CHUNK]]}
        for start in range(0, len(clips), _CHUNK)
    ]
    done = 0
    for row in on_ray(f"{__name__}:PrepareWorker", settings, items, cluster=cluster):
        done += int(row["clips"])
        if progress is not None:
            progress(done, len(clips))


class ShardWorker:
    """Writes shards of prepared clips.

    Args:
        settings: ``directory`` that relative paths begin at, ``folder`` of the cache, and ``out``,
            the folder of the shards.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        os.chdir(settings["directory"])
        self._cache, self._out = Path(settings["folder"]), Folder(settings["out"])

    def __call__(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write the shard of ``plan``; return its ``name``."""
        from avser.data.audio_cache import prepare

        plan = plan_of_dict(item["plan"])
        prepared = prepare([row.clip for row in plan.clips], folder=self._cache, workers=1)
        write_shard(self._out, plan, prepared.waves, faces=self._cache / "faces")
        return {"name": plan.name}


def shards_on_ray(cluster: Cluster, place: str) -> RunPlans:
    """Writing of shards on a cluster whose machines share the disk of the cache."""
    from avser.data.content import cache_folder

    def run(plans: Sequence[ShardPlan]) -> Iterator[ShardPlan]:
        settings = {
            "directory": os.getcwd(), "folder": str(cache_folder().absolute()), "out": place,
        }  # fmt: skip
        by_name = {plan.name: plan for plan in plans}
        items = [{"plan": plan_to_dict(plan)} for plan in plans]
        for row in on_ray(f"{__name__}:ShardWorker", settings, items, cluster=cluster):
            yield by_name[row["name"]]

    return run
