"""Predictions of a model for a set of clips: saved, merged and loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avser.errors import ConfigError
from avser.files import atomic_write


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Predicted probabilities and true labels of a set of clips.

    Attributes:
        clip_ids: names of the clips, each once.
        speakers: speaker of each; "" if unknown.
        sexes: "female", "male" or "".
        labels: true classes, indices into ``emotions``, ``[N]``.
        probabilities: ``[N, K]`` float32; rows sum to 1.
        emotions: the K classes.
        seen: whether the clip's speaker was in the model's training.

    Raises:
        ConfigError: the columns do not fit together, or a row is no distribution.
    """

    clip_ids: Sequence[str]
    speakers: Sequence[str]
    sexes: Sequence[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.floating]
    emotions: tuple[str, ...]
    seen: list[bool]

    def __post_init__(self) -> None:
        size, classes = len(self.clip_ids), len(self.emotions)
        rows = np.asarray(self.probabilities, dtype=np.float32).reshape(-1, classes)
        labels = np.asarray(self.labels, dtype=np.int64)
        object.__setattr__(self, "probabilities", rows)
        object.__setattr__(self, "labels", labels)
        columns = (self.speakers, self.sexes, labels, rows, self.seen)
        if any(len(column) != size for column in columns):
            raise ConfigError(
                f"Bad predictions of {size} clips: speakers, sexes, labels, probabilities and seen "
                f"have {', '.join(str(len(c)) for c in columns)} rows; give one row a clip."
            )
        if len(set(self.clip_ids)) != size:
            twice = next(c for i, c in enumerate(self.clip_ids) if c in self.clip_ids[:i])
            raise ConfigError(
                f"Bad predictions: clip {twice!r} is there twice; test each clip once."
            )
        if size and not 0 <= labels.min() <= labels.max() < classes:
            raise ConfigError(
                f"Bad labels {labels.min()} to {labels.max()}: expected 0 to {classes - 1}; drop "
                "clips without a label first."
            )
        wrong = ~(np.isfinite(rows).all(1) & (rows >= 0).all(1) & (abs(rows.sum(1) - 1) < 1e-3))
        if wrong.any():
            where = int(wrong.argmax())
            raise ConfigError(
                f"Bad probabilities of clip {self.clip_ids[where]!r}: {rows[where].tolist()}; "
                "expected finite shares that sum to 1; drop clips without an answer and say so."
            )

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Most probable class of each clip ``[N]``."""
        best: NDArray[np.int64] = np.argmax(self.probabilities, axis=1)
        return best

    @property
    def groups(self) -> list[str]:
        """Units of the bootstrap: the speaker, or the clip if that is unknown."""
        return [s or f"clip {c}" for s, c in zip(self.speakers, self.clip_ids, strict=True)]

    def where(self, keep: ArrayLike) -> Predictions:
        """Return the clips for which ``keep [N]`` is true."""
        return self.take(np.flatnonzero(np.asarray(keep, dtype=bool)).tolist())

    def take(self, rows: Sequence[int]) -> Predictions:
        """Return the clips of these indices, in their order."""
        return Predictions(
            clip_ids=[self.clip_ids[i] for i in rows],
            speakers=[self.speakers[i] for i in rows],
            sexes=[self.sexes[i] for i in rows],
            labels=self.labels[list(rows)],
            probabilities=self.probabilities[list(rows)],
            emotions=self.emotions,
            seen=[self.seen[i] for i in rows],
        )

    def unseen(self) -> Predictions:
        """Return the clips whose speakers were not in the model's training."""
        return self.where(~np.asarray(self.seen, dtype=bool))

    @staticmethod
    def merge(parts: Sequence[Predictions]) -> Predictions:
        """Join the predictions of folds into those of the corpus.

        Raises:
            ConfigError: there are none, their classes differ, or a clip is in two of them.
        """
        kinds = {part.emotions for part in parts}
        if len(kinds) != 1:
            raise ConfigError(
                f"Bad predictions to merge: {len(kinds)} different sets of classes; expected one "
                "set; give folds of one task."
            )
        return Predictions(
            clip_ids=[c for part in parts for c in part.clip_ids],
            speakers=[s for part in parts for s in part.speakers],
            sexes=[s for part in parts for s in part.sexes],
            labels=np.concatenate([part.labels for part in parts]),
            probabilities=np.concatenate([part.probabilities for part in parts]),
            emotions=parts[0].emotions,
            seen=[s for part in parts for s in part.seen],
        )

    @staticmethod
    def mean(
        runs: Sequence[Predictions], *, rule: Literal["mean", "product"] = "mean"
    ) -> Predictions:
        """Join the predictions of several models for the same clips.

        A clip is seen if its speaker is in the training data of any of the models.

        Args:
            runs: one per model.
            rule: mean or normalised product of the probabilities.

        Raises:
            ConfigError: the clips or the classes differ.
        """
        first, *others = runs
        read = _logarithms if rule == "product" else _doubles
        rows = read(first.probabilities)
        seen = list(first.seen)
        for run in others:
            place = {name: row for row, name in enumerate(run.clip_ids)}
            if set(place) != set(first.clip_ids):
                raise ConfigError(_different_clips(first.clip_ids, run.clip_ids))
            if run.emotions != first.emotions:
                raise ConfigError(
                    f"Bad ensemble: its models have classes {', '.join(first.emotions)} and "
                    f"{', '.join(run.emotions)}; choose models of the same classes."
                )
            index = [place[name] for name in first.clip_ids]
            rows = rows + read(run.probabilities)[index]
            seen = [a or run.seen[i] for a, i in zip(seen, index, strict=True)]
        if rule == "product":
            rows = np.exp(rows - rows.max(axis=1, keepdims=True))
        return replace(first, probabilities=rows / rows.sum(axis=1, keepdims=True), seen=seen)

    def save(self, path: str | Path) -> None:
        """Write as JSON, one clip per line."""
        rows = [
            json.dumps(
                {
                    "clip_id": self.clip_ids[i],
                    "speaker": self.speakers[i],
                    "sex": self.sexes[i],
                    "seen": bool(self.seen[i]),
                    "label": self.emotions[self.labels[i]],
                    # The shortest digits that give the same float32 back.
                    "probabilities": [float(str(p)) for p in self.probabilities[i]],
                }
            )
            for i in range(len(self))
        ]
        head = json.dumps(list(self.emotions))
        text = '{"emotions": ' + head + ', "clips": [\n' + ",\n".join(rows) + "\n]}\n"
        with atomic_write(Path(path)) as file:
            file.write(text)

    @staticmethod
    def load(path: str | Path) -> Predictions:
        """Read a file of `save`.

        Raises:
            ConfigError: the file is not there or is of another kind.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            emotions, clips = tuple(content["emotions"]), content["clips"]
            return Predictions(
                clip_ids=[c["clip_id"] for c in clips],
                speakers=[c["speaker"] for c in clips],
                sexes=[c["sex"] for c in clips],
                labels=np.array([emotions.index(c["label"]) for c in clips], dtype=np.int64),
                probabilities=np.array([c["probabilities"] for c in clips], dtype=np.float32),
                emotions=emotions,
                seen=[bool(c["seen"]) for c in clips],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"Bad predictions file {str(path)!r}: {error}; expected the JSON that avser writes."
            ) from error


def file_name(name: str) -> str:
    """Turn a stream's, level's or condition's name into a part of a file's name.

    >>> file_name("Opus 8 kbit/s")
    'opus_8_kbit_s'
    """
    return re.sub(r"[^a-z0-9.-]+", "_", name.lower())


def _doubles(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    return probabilities.astype(np.float64)


def _logarithms(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log(np.maximum(_doubles(probabilities), 1e-12))


def _different_clips(first: Sequence[str], other: Sequence[str]) -> str:
    """Sentence for predictions of two models that were tested on different clips."""
    alone = sorted(set(first) ^ set(other))
    return (
        f"Bad ensemble: its models were tested on different clips ({len(first)} and {len(other)}, "
        f"{len(set(first) & set(other))} in both; in one alone: {alone[0]}); combine runs of the "
        "same split and fold."
    )
