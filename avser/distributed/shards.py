"""Prepared clips in tar files, for training from a bucket or a slow disk.

A folder of shards holds

| file | content |
|---|---|
| ``shard-<place>-<digest>.tar`` | clips one after another, laid out as WebDataset does |
| ``index.jsonl`` | the corpus, with audit and split hash; then a line a clip, with its place |

A clip is ``<key>.json`` (its row), ``<key>.npy`` (``[S]`` int16 at 16 kHz) and, where it has any,
``<key>.npz`` (face crops and their places). A shard's name follows from its clips: one that is
there is finished, and is kept when an interrupted writing is resumed.

Clips of a speaker lie together, in random order, so that the parts of a split by speakers are read
in few large pieces and what is not asked for is passed over.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.data.face_cache import FaceRows
from avser.data.rows import clip_from_dict, clip_to_dict
from avser.data.splits import clip_name
from avser.distributed.folder import Folder
from avser.errors import CacheError, CorpusError
from avser.types import Clip

INDEX = "index.jsonl"
SHARD_BYTES = 64 << 20  # large enough for a store, small enough to be written again
_NPY_HEADER = 128  # bytes before the samples of a .npy
_SHARD = re.compile(r"shard-\d{6,}(-[0-9a-f]{16})?\.tar")
RUN = 32  # clips that are read at once

_LAYOUT = 1


@dataclass(frozen=True)
class StoredClip:
    """A clip, and where it is.

    Attributes:
        clip: row of its corpus.
        samples: how many it has.
        digest: hash of them.
        shard: name of the file.
        start, stop: its bytes in that file.
    """

    clip: Clip
    samples: int
    digest: str
    shard: str
    start: int
    stop: int


@dataclass(frozen=True)
class ShardPlan:
    """A shard that is to be written.

    Attributes:
        name: of its file; it follows from the content, so that a file that is there is finished.
        clips: with their places in it.
        faces: name of the prepared faces of each, in the cache; None where it has none.
        first: number of its first clip, over all shards.
    """

    name: str
    clips: tuple[StoredClip, ...]
    faces: tuple[str | None, ...]
    first: int


#: Writes shards, in any order; gives each when it is there.
RunPlans = Callable[[Sequence[ShardPlan]], Iterable[ShardPlan]]


def plan_to_dict(plan: ShardPlan) -> dict[str, Any]:
    """Return plain values of a plan."""
    clips = [{**vars(row), "clip": clip_to_dict(row.clip)} for row in plan.clips]
    return {"name": plan.name, "clips": clips, "faces": list(plan.faces), "first": plan.first}


def plan_of_dict(values: Mapping[str, Any]) -> ShardPlan:
    """Read what `plan_to_dict` gave."""
    clips = tuple(_stored(row) for row in values["clips"])
    return ShardPlan(values["name"], clips, tuple(values["faces"]), values["first"])


def plan_shards(
    clips: Sequence[Clip],
    *,
    lengths: Sequence[int],
    digests: Mapping[str, str],
    faces: FaceRows | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[ShardPlan]:
    """Cut a corpus into shards; the same corpus gives the same names and places.

    Args:
        clips: rows.
        lengths: samples of each.
        digests: of `clip_name`.
        faces: prepared faces of each.
        shard_bytes: after which the next file is begun.
    """
    order = sorted(range(len(clips)), key=lambda i: (clips[i].speaker, _shuffled(clips[i])))
    plans: list[ShardPlan] = []
    rows: list[tuple[StoredClip, str | None]] = []
    end = first = 0
    for number, place in enumerate(order, 1):
        clip = clips[place]
        path = None if faces is None else faces[place].path
        row = StoredClip(clip, lengths[place], digests[clip_name(clip)], "", end, 0)
        size = 0 if path is None else path.stat().st_size
        end += _stored_bytes(len(_row_json(row)), _NPY_HEADER + 2 * row.samples, size)
        rows.append((replace(row, stop=end), None if path is None else path.name))
        if end >= shard_bytes or number == len(order):
            plans.append(_plan(len(plans), rows, first))
            rows, end, first = [], 0, number
    return plans


def _plan(number: int, rows: Sequence[tuple[StoredClip, str | None]], first: int) -> ShardPlan:
    digest = blake2b(digest_size=8)
    for row, faces in rows:
        digest.update(_row_json(row) + f"{faces}\0{row.stop}\0".encode())
    name = f"shard-{number:06}-{digest.hexdigest()}.tar"
    clips = tuple(replace(row, shard=name) for row, _ in rows)
    return ShardPlan(name, clips, tuple(faces for _, faces in rows), first)


def _row_json(row: StoredClip) -> bytes:
    content = {"clip": clip_to_dict(row.clip), "samples": row.samples, "digest": row.digest}
    return json.dumps(content).encode()


def _stored_bytes(*sizes: int) -> int:
    """Bytes of the members of a tar: each has a header and is filled up to whole blocks."""
    return sum(tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE)) for size in sizes if size)


def write_shard(
    folder: Folder, plan: ShardPlan, waves: Iterable[NDArray[np.int16]], *, faces: Path
) -> None:
    """Write a shard.

    Args:
        folder: of the shards.
        plan: of `plan_shards`.
        waves: prepared samples of its clips.
        faces: folder of the prepared faces.

    Raises:
        StorageError: it can't be written.
        CacheError: the prepared clips are not those that were planned.
    """
    with folder.write(plan.name) as file, tarfile.open(fileobj=file, mode="w") as tar:
        pieces = zip(plan.clips, waves, plan.faces, strict=True)
        for number, (row, samples, name) in enumerate(pieces, plan.first):
            members = {"json": _row_json(row), "npy": _npy(samples)}
            if name is not None:
                members["npz"] = (faces / name).read_bytes()
            _add(tar, f"{number:08}", members)
            if tar.offset != row.stop:
                raise CacheError(
                    f"Bad cache: {clip_name(row.clip)} was prepared again while {plan.name} was "
                    "written; run the same command again."
                )


def writer(
    folder: Folder, clips: Sequence[Clip], waves: Sequence[NDArray[np.int16]], *, faces: Path
) -> RunPlans:
    """Writing of shards in this process, from prepared samples; see `write_shard`."""
    places = {clip_name(clip): place for place, clip in enumerate(clips)}

    def run(plans: Sequence[ShardPlan]) -> Iterator[ShardPlan]:
        for plan in plans:
            own = (waves[places[clip_name(row.clip)]] for row in plan.clips)
            write_shard(folder, plan, own, faces=faces)
            yield plan

    return run


def _add(tar: tarfile.TarFile, key: str, members: Mapping[str, bytes]) -> None:
    """Append the members of a clip."""
    for suffix, content in members.items():
        info = tarfile.TarInfo(f"{key}.{suffix}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def write_shards(
    folder: Folder,
    plans: Sequence[ShardPlan],
    *,
    about: Mapping[str, Any],
    face_size: int | None = None,
    run: RunPlans,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the shards that are not there, then the index, so that half of it is no corpus.

    Args:
        folder: of the shards; what an interrupted writing left there is kept.
        plans: of `plan_shards`.
        about: what the index says of the corpus.
        face_size: side of the face crops in pixels; None without faces.
        run: writes shards, here or on a cluster.
        progress: called as ``(done, total)`` clips.

    Returns:
        How many shards had to be written.

    Raises:
        StorageError: the folder can't be written.
    """
    there = folder.names()
    todo = [plan for plan in plans if plan.name not in there]
    total = sum(len(plan.clips) for plan in plans)
    done = total - sum(len(plan.clips) for plan in todo)
    for plan in run(todo):
        done += len(plan.clips)
        if progress is not None:
            progress(done, total)
    header = {**about, "layout": _LAYOUT, "clips": total, "face_size": face_size}
    with folder.write(INDEX) as file:
        file.write(json.dumps(header).encode() + b"\n")
        for plan in plans:
            file.writelines(_index_line(row) for row in plan.clips)
    for name in there - {plan.name for plan in plans}:
        if _SHARD.fullmatch(name):  # of another corpus, or of other settings
            folder.remove(name)
    return len(todo)


def _index_line(row: StoredClip) -> bytes:
    content = json.loads(_row_json(row)) | {
        "shard": row.shard, "start": row.start, "stop": row.stop,
    }  # fmt: skip
    return json.dumps(content).encode() + b"\n"


def _shuffled(clip: Clip) -> str:
    """A number that orders the clips of a speaker as if at random, the same each time."""
    return blake2b(clip_name(clip).encode(), digest_size=8).hexdigest()


def _npy(samples: NDArray[np.int16]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(samples), allow_pickle=False)
    return file.getvalue()


def read_index(folder: Folder) -> tuple[dict[str, Any], list[StoredClip]]:
    """Read what the corpus is, and its clips.

    Raises:
        CorpusError: there is no index, or another layout.
        StorageError: it can't be read.
    """
    try:
        with folder.read(INDEX) as file:
            about: dict[str, Any] = json.loads(file.readline())
            if about["layout"] != _LAYOUT:
                raise ValueError(about["layout"])
            rows = [_stored(json.loads(line)) for line in file]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"Bad shards {folder}: no index of avser is there; write them with avser prepare "
            "--shards."
        ) from error
    return about, rows


def _stored(row: Mapping[str, Any]) -> StoredClip:
    clip = clip_from_dict(row["clip"])
    names = ("samples", "digest", "shard", "start", "stop")
    return StoredClip(clip, *(row[name] for name in names))


# -- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShardClip:
    """What a shard holds of a clip: ``samples [S]`` int16 and the bytes of its face file."""

    samples: NDArray[np.int16]
    faces: bytes | None


def runs_of(rows: Iterable[StoredClip], *, most: int = RUN) -> list[list[StoredClip]]:
    """Group clips that lie near each other, in the order of the shards."""
    runs: list[list[StoredClip]] = []
    for row in sorted(rows, key=lambda r: (r.shard, r.start)):
        last = runs[-1] if runs else []
        if last and len(last) < most and last[-1].shard == row.shard:
            near = row.start - last[-1].stop <= last[-1].stop - last[0].start
            if near and row.clip.speaker == last[-1].clip.speaker:
                last.append(row)
                continue
        runs.append([row])
    return runs


def read_run(folder: Folder, run: Sequence[StoredClip]) -> list[ShardClip]:
    """Read the clips of a run in one piece.

    Raises:
        StorageError: the shard can't be read.
        CorpusError: it is not as its index says.
    """
    first = run[0].start
    whole = folder.read_range(run[0].shard, first, run[-1].stop)
    return [_clip_of(whole[r.start - first : r.stop - first], r, folder) for r in run]


def _clip_of(part: bytes, row: StoredClip, folder: Folder) -> ShardClip:
    try:
        with tarfile.open(fileobj=io.BytesIO(part), mode="r:") as tar:
            files = {m.name.rpartition(".")[2]: _content(tar, m) for m in tar}
        samples = np.load(io.BytesIO(files["npy"]), allow_pickle=False)
        if len(samples) != row.samples:
            raise ValueError(len(samples))
    except (tarfile.TarError, ValueError, KeyError, EOFError) as error:
        raise CorpusError(
            f"Bad shard {folder.path(row.shard)}: {clip_name(row.clip)} is not where its index "
            "says; write the shards again."
        ) from error
    return ShardClip(samples, files.get("npz"))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


# -- order of an epoch ---------------------------------------------------------------------------

_WINDOW = 8  # runs that are mixed
_POOL = 2  # batches that are sorted by length together; see `avser.data.dataset.LengthSampler`


def epoch_batches(
    rows: Sequence[StoredClip],
    *,
    batch_size: int,
    lanes: int,
    seed: int,
    epoch: int,
) -> list[list[list[StoredClip]]]:
    """Training batches of each lane: shuffled, of like length, no clip twice in an epoch.

    Runs are assigned to the lanes, and mixed a window at a time, so that a lane reads each of its
    runs once and holds few of them. All lanes have as many batches: a distributed training waits
    for the slowest.

    Args:
        rows: clips of the training part.
        batch_size: clips a batch.
        lanes: loading processes of all processes of the training.
        seed: of the order.
        epoch: from 0; each has another order.
    """
    rng = np.random.default_rng((seed, epoch))
    size = max(1, min(batch_size, len(rows) // lanes))
    runs = runs_of(rows, most=max(1, min(RUN, len(rows) // (lanes * _WINDOW))))
    order = [runs[i] for i in rng.permutation(len(runs))]
    plans = []
    for lane in range(lanes):
        mine = order[lane::lanes]
        mixed: list[StoredClip] = []
        for start in range(0, len(mine), _WINDOW):
            window = [row for run in mine[start : start + _WINDOW] for row in run]
            mixed += [window[i] for i in rng.permutation(len(window))]
        plans.append(_batches(mixed, size, rng))
    count = min(map(len, plans))
    return [plan[:count] for plan in plans]


def _batches(
    rows: Sequence[StoredClip], size: int, rng: np.random.Generator
) -> list[list[StoredClip]]:
    """Cut rows into whole batches, sorted by length within small pools."""
    whole = rows[: len(rows) // size * size]
    batches: list[list[StoredClip]] = []
    for start in range(0, len(whole), _POOL * size):
        pool = sorted(whole[start : start + _POOL * size], key=lambda row: row.samples)
        cut = [pool[i : i + size] for i in range(0, len(pool), size)]
        batches += [cut[i] for i in rng.permutation(len(cut))]
    return batches


def stream(
    folder: Folder, batches: Sequence[Sequence[StoredClip]]
) -> Iterator[list[tuple[StoredClip, ShardClip]]]:
    """Read batches in their order: each run of clips once, kept until its last clip is used."""
    needed = [row for batch in batches for row in batch]
    run_of = {(r.shard, r.start): run for run in runs_of(needed) for r in run}
    held: dict[tuple[str, int], ShardClip] = {}
    for batch in batches:
        made = []
        for row in batch:
            key = (row.shard, row.start)
            if key not in held:
                run = run_of[key]
                held |= {
                    (r.shard, r.start): clip
                    for r, clip in zip(run, read_run(folder, run), strict=True)
                }
            made.append((row, held.pop(key)))
        yield made
