"""Jobs of many clips, cut into parts: their names, their order, and what is finished.

A job's folder holds

| file | content |
|---|---|
| ``inputs.jsonl`` | name and inputs of each part, a part a line |
| ``job.json`` | settings, and a digest of all inputs |
| ``part-<place>-<digest>.parquet`` | rows of a part, in the order of its inputs |
| ``manifest.json`` | the parts in order with their rows; written when all are finished |

A part's name follows from its inputs. A part that is made twice, since its worker died, therefore
replaces itself, and a part that is there is finished: it appears whole or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

from avser.distributed.folder import Folder
from avser.errors import ConfigError
from avser.inference.writers import Row, count_parquet, read_parquet

INPUTS, JOB, MANIFEST = "inputs.jsonl", "job.json", "manifest.json"
PART_CLIPS = 128  # a minute of work or two for sound, which a worker that dies loses at most

_PART = re.compile(r"part-\d{6,}-[0-9a-f]{16}\.parquet")
_SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class Part:
    """Some inputs of a job.

    Attributes:
        name: of the file of its rows.
        offset: of its line in ``inputs.jsonl``, in bytes.
    """

    name: str
    offset: int


@dataclass(frozen=True)
class Shard:
    """One of several processes that share a job, without a cluster.

    Attributes:
        number: from 1.
        count: processes.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``.

        Raises:
            ConfigError: it is something else.
        """
        match = _SHARD.fullmatch(text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"Bad --shard {text}: expected I/N with I from 1 to N, such as 3/8.")
        return cls(int(match[1]), int(match[2]))

    def of(self, parts: Iterable[Part]) -> list[Part]:
        """Every N-th part, from the I-th."""
        return list(islice(parts, self.number - 1, None, self.count))


def part_name(place: int, inputs: Iterable[str]) -> str:
    """Name of the part of these inputs.

    >>> part_name(0, ["a.wav", "b.wav"])
    'part-000000-3b6d5275f4fda945.parquet'
    """
    digest = blake2b(digest_size=8)
    for path in inputs:
        digest.update(path.encode("utf-8", "surrogateescape") + b"\0")
    return f"part-{place:06}-{digest.hexdigest()}.parquet"


class Job:
    """A job in its folder.

    Args:
        folder: of the job; an existing job is resumed.
        settings: that the rows depend on. A folder with rows of other settings is refused.
        inputs: drawn once, and kept on the disk alone.
        part_clips: inputs of a part.
        shard: the share of this process.

    Attributes:
        parts: all, in the order of the inputs.
        todo: parts of the shard that are not finished.
        count: inputs of all parts.

    Raises:
        ConfigError: settings differ, or a shard has other inputs than those before it.
        StorageError: the folder can't be used.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        settings: Mapping[str, Any],
        inputs: Iterable[str],
        part_clips: int = PART_CLIPS,
        shard: Shard | None = None,
    ) -> None:
        self.folder = folder
        self._settings = json.loads(json.dumps({**settings, "part_clips": part_clips}))
        self._counts: dict[str, tuple[int, int]] = {}  # rows and errors of recorded parts
        self.parts: list[Part] = []
        self.count = 0
        before = self._before()
        whole = blake2b(digest_size=8)
        drawn = iter(inputs)
        offset = 0
        with folder.write(INPUTS) as file:
            while paths := list(islice(drawn, part_clips)):
                name = part_name(len(self.parts), paths)
                line = json.dumps({"name": name, "inputs": paths}).encode() + b"\n"
                file.write(line)
                self.parts.append(Part(name, offset))
                self.count += len(paths)
                offset += len(line)
                whole.update(name.encode())
            self._digest = whole.hexdigest()
            if shard is not None and shard.count > 1 and before not in (None, self._digest):
                raise ConfigError(
                    f"Bad --shard {shard.number}/{shard.count}: the inputs are not those of the "
                    f"other shards in {folder}; name them by one --list FILE, or choose another "
                    "--out."
                )
        with folder.write(JOB) as file:
            content = {"settings": self._settings, "inputs": self._digest}
            file.write(json.dumps(content, indent=1).encode() + b"\n")
        there = folder.names()
        self.todo = [p for p in (shard or Shard()).of(self.parts) if p.name not in there]

    def _before(self) -> str | None:
        """Digest of the inputs of the job that is there, if any."""
        try:
            with self.folder.read(JOB) as file:
                content = json.load(file)
            settings, digest = content["settings"], str(content["inputs"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"Bad job {self.folder.path(JOB)}: avser classify did not write it; choose "
                "another --out."
            ) from error
        names = {*settings, *self._settings}
        for name in sorted(names):
            if settings.get(name) != self._settings.get(name):
                raise ConfigError(
                    f"Bad settings: {self.folder} holds rows of another {name} "
                    f"({settings.get(name)!r}); repeat its settings to go on, or choose another "
                    "--out."
                )
        return digest

    def record(self, name: str, *, rows: int, failed: int) -> None:
        """Record what a part holds, so that it is not read again at the end."""
        self._counts[name] = rows, failed

    def finish(self) -> Manifest | None:
        """Write the manifest and remove parts of earlier inputs; None while a part is missing."""
        there = self.folder.names()
        if any(part.name not in there for part in self.parts):
            return None
        counts = [self._counts.get(p.name) or _count(self.folder, p.name) for p in self.parts]
        manifest = Manifest(
            rows=sum(rows for rows, _ in counts),
            failed=sum(failed for _, failed in counts),
            parts=tuple(part.name for part in self.parts),
        )
        with self.folder.write(MANIFEST) as file:
            content = {
                "settings": self._settings,
                "inputs": self._digest,
                "rows": manifest.rows,
                "failed": manifest.failed,
                "parts": [
                    {"name": name, "rows": rows, "failed": failed}
                    for name, (rows, failed) in zip(manifest.parts, counts, strict=True)
                ],
            }
            file.write(json.dumps(content, indent=1).encode() + b"\n")
        for name in there:
            if _PART.fullmatch(name) and name not in manifest.parts:
                self.folder.remove(name)
        return manifest


@dataclass(frozen=True)
class Manifest:
    """A finished job.

    Attributes:
        rows: of all parts; an input is a row.
        failed: rows with an error.
        parts: names, in the order of the inputs.
    """

    rows: int
    failed: int
    parts: tuple[str, ...]


def rows_of(folder: Folder, parts: Iterable[str]) -> Iterator[Row]:
    """Rows of parts, one part in memory at a time; parts hold no timelines.

    Raises:
        StorageError: a part can't be read.
        ConfigError: a part is damaged.
    """
    for name in parts:
        with folder.read(name) as file, _damage(folder, name):
            yield from read_parquet(file)


def _count(folder: Folder, name: str) -> tuple[int, int]:
    """Rows and errors of a part."""
    with folder.read(name) as file, _damage(folder, name):
        return count_parquet(file)


@contextmanager
def _damage(folder: Folder, name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"Bad part {folder.path(name)}: it is damaged; remove it, and run the same command "
            "again."
        ) from error


def inputs_of(folder: Folder, part: Part) -> list[str]:
    """The inputs of a part."""
    with folder.read(INPUTS) as file:
        file.seek(part.offset)
        row = json.loads(file.readline())
    if row["name"] != part.name:
        raise ConfigError(f"Bad job {folder}: its inputs were replaced; run the command again.")
    paths: list[str] = row["inputs"]
    return paths
