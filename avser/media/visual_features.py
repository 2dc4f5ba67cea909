"""Precomputed visual features of a clip: action units, or any vectors, per clip or over time.

Their place is one text, a clip's ``features``:

| text | what it is |
|---|---|
| ``aus.csv#01-01-06-01-02-01-12`` | the row whose column ``name`` is that key: one vector a clip |
| ``shapes.npz#01-01-06-01-02-01-12`` | rows of that key over time (``avser features``) |
| ``clip.csv`` | OpenFace's table of one clip: a row a frame, with ``timestamp`` and ``success`` |
| ``clip.npy`` | ``[F]``, one vector a clip, or ``[T, F]``, one a step of 0.512 s |

Of a table with action units its ``AU…`` columns are taken (17 intensities, 18 presences in
OpenFace 2); of any other, all columns but those that count frames or people.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from avser.errors import MediaError
from avser.files import expand_home
from avser.media.container import media_errors
from avser.stores import is_url
from avser.types import STEP_S

if TYPE_CHECKING:
    from torch import Tensor

Vectors = NDArray[np.float32]

_NOT_FEATURES = frozenset(
    "name frame face_id timestamp confidence success emotion speaker path".split()
)


@dataclass(frozen=True)
class Features:
    """Vectors of one clip.

    Attributes:
        values: ``[n, F]`` float32.
        times_s: ``[n]``, seconds from the clip's start; None where there is one vector for the
            whole clip.
    """

    values: Vectors
    times_s: NDArray[np.float64] | None

    def scaled(self, mean: Vectors, deviation: Vectors) -> Features:
        """Take out a mean ``[F]`` and divide by a deviation ``[F]``."""
        return Features((self.values - mean) / deviation, self.times_s)

    def on_grid(self, start: int, steps: int) -> Vectors:
        """Vectors of the steps from ``start``: ``[T, F]``; NaN where no frame shows the face."""
        if self.times_s is None:
            return np.repeat(self.values, steps, axis=0)
        index = (self.times_s / STEP_S).astype(np.int64) - start
        grid = np.full((steps, self.values.shape[1]), np.nan, np.float32)
        for step in range(steps):
            here = self.values[index == step]
            if len(here):
                grid[step] = here.mean(axis=0)
        return grid


@dataclass(frozen=True)
class FeatureRow:
    """What a dataset takes of one clip; ``features`` is None where the clip has none."""

    features: Features | None
    width: int

    @property
    def timeless(self) -> bool:
        """Whether one vector stands for the whole clip."""
        return self.features is None or self.features.times_s is None

    def cut(self, start: int, steps: int) -> dict[str, Tensor]:
        """``video_features [T, F]`` of the steps from ``start``; NaN where there is no face."""
        import torch

        if self.features is None:
            return {"video_features": torch.full((steps, self.width), torch.nan)}
        return {"video_features": torch.from_numpy(self.features.on_grid(start, steps))}


class FeatureRows:
    """Features of a corpus's clips.

    Args:
        rows: of each clip, or None where it has none.

    Raises:
        MediaError: clips have vectors of different widths.
    """

    def __init__(self, rows: Sequence[Features | None]) -> None:
        self.rows = list(rows)
        widths = sorted({row.values.shape[1] for row in rows if row is not None})
        if len(widths) != 1:
            raise MediaError(
                f"Bad features of widths {widths}: expected one width for all clips; take them "
                "from one table."
            )
        self.width = widths[0]

    def __getitem__(self, index: int) -> FeatureRow:
        return FeatureRow(self.rows[index], self.width)

    @property
    def timeless(self) -> bool:
        """Whether every clip has one vector alone: tables then say "clip-mean"."""
        return all(row is None or row.times_s is None for row in self.rows)

    def enrolled(self, speakers: Sequence[str]) -> FeatureRows:
        """Take each speaker's own mean out and scale by the own deviation, labels unseen.

        Args:
            speakers: of each clip.
        """
        found: dict[str, list[Vectors]] = {}
        for speaker, row in zip(speakers, self.rows, strict=True):
            if row is not None:
                found.setdefault(speaker, []).append(row.values)
        scales = {s: scale_of(np.concatenate(v)) for s, v in found.items()}
        return FeatureRows(
            [
                None if row is None else row.scaled(*scales[speaker])
                for speaker, row in zip(speakers, self.rows, strict=True)
            ]
        )


def scale_of(values: Vectors) -> tuple[Vectors, Vectors]:
    """Mean and deviation ``[F]`` of ``[n, F]``; what does not vary keeps its scale."""
    deviation = values.std(axis=0)
    return values.mean(axis=0), np.where(deviation > 1e-6, deviation, 1.0).astype(np.float32)


def read_features(where: str) -> Features:
    """Read what a clip's ``features`` names.

    Raises:
        MediaError: the file or its row is missing, or holds something else.
    """
    name, _, key = where.partition("#")
    path = local_table(name)
    with media_errors(path):
        return _read_from(where, path, key)


def local_table(name: str | PurePath) -> Path:
    """Return the path of a table of features, which must be a file of this machine.

    Raises:
        MediaError: it is an address; its rows are read one by one, at any time.
    """
    if is_url(name):
        raise MediaError(
            f"Bad features {name}: it is an address, expected a file; download it and name that."
        )
    return expand_home(Path(name))


def _read_from(where: str, path: Path, key: str) -> Features:
    if "\0" in str(path) or not path.is_file():
        raise MediaError(
            f"Bad features {where!r}: there is no file {str(path)!r}; check the table's path."
        )
    if path.suffix.lower() == ".npz":
        return _of_table(where, path, key)
    if key:
        table = _table(str(path), path.stat().st_mtime_ns)
        if key not in table:
            raise MediaError(
                f"Bad features {where!r}: no row is named {key!r} among {len(table)}; leave the "
                "clip's features out."
            )
        return Features(table[key][None], None)
    return _array(path) if path.suffix.lower() == ".npy" else _frames(path)


def _of_table(where: str, path: Path, key: str) -> Features:
    table = _over_time(str(path), path.stat().st_mtime_ns)
    if key not in table:
        raise MediaError(
            f"Bad features {where!r}: no rows are named {key!r} among {len(table)}; leave the "
            "clip's features out."
        )
    return table[key]


@lru_cache(maxsize=8)
def _over_time(path: str, changed: int) -> dict[str, Features]:
    """Features by key of a file that `avser.media.blendshapes.FeatureTable` wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            keys, ends = file["keys"].tolist(), file["ends"].tolist()
            values, times = file["values"].astype(np.float32), file["times_s"].astype(np.float64)
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        raise MediaError(
            f"Bad features {path}: {error}; expected a table of avser features."
        ) from error
    starts = [0, *ends][: len(ends)]
    return {
        key: Features(values[start:end], times[start:end])
        for key, start, end in zip(keys, starts, ends, strict=True)
    }


def feature_keys(path: str | PurePath) -> frozenset[str]:
    """Keys of a table over time (``.npz``).

    Raises:
        MediaError: the file is missing or another one.
    """
    path = local_table(path)
    with media_errors(path):
        return frozenset(_over_time(str(path), path.stat().st_mtime_ns))


def _array(path: Path) -> Features:
    try:
        values = np.load(path, allow_pickle=False).astype(np.float32)
    except (ValueError, OSError, EOFError) as error:
        raise MediaError(f"Bad features {path}: {error}; save a plain array of numbers.") from error
    if values.ndim not in (1, 2) or not values.size:
        raise MediaError(
            f"Bad features {path} of shape {values.shape}: expected [F] for the clip, or [T, F] "
            f"with a row a step of {STEP_S} s."
        )
    if values.ndim == 1:
        return Features(values[None], None)
    return Features(values, np.arange(0.5, len(values), dtype=np.float64) * STEP_S)


def _columns(header: Sequence[str], path: Path) -> list[int]:
    units = [i for i, name in enumerate(header) if name.startswith("AU")]
    chosen = units or [i for i, name in enumerate(header) if name not in _NOT_FEATURES]
    if not chosen:
        raise MediaError(f"Bad features {path}: no column holds features; expected AU01_r, ….")
    return chosen


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)  # OpenFace writes "frame, face_id"
            header = [name.strip() for name in next(reader, [])]
            rows = [row for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"Bad features {path}: {error}; expected a CSV table.") from error
    if any(len(row) != len(header) for row in rows) or not rows:
        raise MediaError(
            f"Bad features {path}: expected a header of column names, then rows as long as it."
        )
    return header, rows


def _numbers(rows: Sequence[Sequence[str]], columns: Sequence[int], path: Path) -> Vectors:
    try:
        values = np.array([[float(row[i]) for i in columns] for row in rows], np.float32)
    except ValueError as error:
        raise MediaError(f"Bad features {path}: {error}; expected numbers.") from error
    if not np.isfinite(values).all():
        raise MediaError(f"Bad features {path}: some are not finite; leave those rows out.")
    return values


@lru_cache(maxsize=8)
def _table(path: str, changed: int) -> dict[str, Vectors]:
    """Rows by name; ``changed`` makes an edited file a new one."""
    header, rows = _read(Path(path))
    if "name" not in header:
        raise MediaError(f"Bad features {path}: expected a column 'name' with a key a clip.")
    place = header.index("name")
    columns = [i for i in _columns(header, Path(path)) if i != place]
    values = _numbers(rows, columns, Path(path))
    return {row[place].strip(): vector for row, vector in zip(rows, values, strict=True)}


def _frames(path: Path) -> Features:
    header, rows = _read(path)
    if "timestamp" not in header:
        raise MediaError(
            f"Bad features {path}: expected a column 'timestamp' in seconds (OpenFace writes it), "
            "or a row named behind '#'."
        )
    time = header.index("timestamp")
    if "success" in header:  # frames in which OpenFace lost the face
        seen = header.index("success")
        shown = [[row[seen].strip() or "0"] for row in rows]
        kept = _numbers(shown, [0], path)[:, 0] > 0
        rows = [row for row, keep in zip(rows, kept, strict=True) if keep]
    columns = _columns(header, path)
    if not rows:
        return Features(np.zeros((0, len(columns)), np.float32), np.zeros(0))
    times = _numbers(rows, [time], path)[:, 0].astype(np.float64)
    return Features(_numbers(rows, columns, path), times)
