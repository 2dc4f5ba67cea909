"""Summary of predictions: the content of ``results.json`` and of result tables.

It has figures as shares of 1, UAR first, with intervals, split, seeds and speakers, and marks for
figures that do not hold for unseen speakers. Imports no Lightning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError, SplitError
from avser.evaluation import metrics
from avser.evaluation.predictions import Predictions as Predictions

RANDOM_SPLIT = "RANDOM SPLIT"
ON_TRAINING_DATA = "ON TRAINING DATA"
SEEN_SPEAKERS = "SEEN SPEAKERS"
ENROLLED = "ENROLLED"
PAIRED = "PAIRED"

#: Meaning of each mark.
MEANINGS: Mapping[str, str] = {
    RANDOM_SPLIT: "Clips of one speaker are on both sides of the split.",
    ON_TRAINING_DATA: "The model is tested on what it was trained on.",
    SEEN_SPEAKERS: "Some of the speakers were in the model's training.",
    ENROLLED: "Unlabelled clips of the test speakers were used.",
    PAIRED: "Sound and picture were not recorded together but paired by their label.",
}

#: Marks that follow from the first word of a split's description.
SPLIT_MARKS: Mapping[str, str] = {"random": RANDOM_SPLIT, "resubstitution": ON_TRAINING_DATA}

STATISTICS: Mapping[str, metrics.Statistic] = {
    "uar": metrics.uar_of,
    "accuracy": metrics.accuracy_of,
    "macro_f1": metrics.macro_f1_of,
    "macro_precision": metrics.macro_precision_of,
}


def summarise(
    predictions: Predictions | Sequence[Predictions],
    *,
    split: str,
    corpus: str,
    label_target: str,
    split_hash: str,
    model: str,
    parameters: int,
    seeds: Sequence[int],
    epochs: Sequence[int],
    commit: str | None,
    notes: Sequence[str] = (),
    marks: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the content of ``results.json``.

    Args:
        predictions: of the test part; with several seeds, one `Predictions` per seed. Figures and
            ECE are then means over seeds; tables and curves pool them.
        split: description of the split; "random" and "resubstitution" are marked.
        corpus: name of the test corpus.
        label_target: acted, voice, face or both.
        split_hash: of the parts.
        model: name of the model.
        parameters: number of parameters.
        seeds: of the trainings; empty if unknown.
        epochs: number of epochs of each training.
        commit: of the code, or None.
        notes: further sentences for the reader.
        marks: further marks (`ENROLLED`, `PAIRED`).

    Raises:
        SplitError: there are no clips.
        ConfigError: seeds and predictions differ in number, or runs have different classes.
    """
    pool = _Pool.of(_runs(predictions, seeds))
    fixed_marks = list(dict.fromkeys([*_split_marks(split), *marks]))
    return {
        **pool.figures(),
        "marks": [*fixed_marks, *([SEEN_SPEAKERS] if pool.seen.any() else [])],
        "n": len(set(pool.clips)),
        **pool.per_class(),
        "per_speaker": pool.per_speaker(fixed_marks),
        "per_sex": pool.per_sex(fixed_marks),
        **pool.calibration(),
        "split": split,
        **pool.speaker_fields(),
        "corpus": corpus,
        "label_target": label_target,
        "split_hash": split_hash,
        "model": model,
        "parameters": parameters,
        "seeds": list(seeds),
        "epochs": list(epochs),
        "commit": commit,
        "notes": [*notes, *pool.notes()],
    }


def stream_figures(
    streams: Mapping[str, Sequence[Predictions]], *, seeds: Sequence[int]
) -> dict[str, Any]:
    """Return the figures of each stream alone, or of each level or condition.

    Args:
        streams: stream to its predictions, one a seed.
        seeds: of the trainings.
    """
    return {name: _Pool.of(_runs(runs, seeds)).figures() for name, runs in streams.items()}


def _runs(
    predictions: Predictions | Sequence[Predictions], seeds: Sequence[int]
) -> list[Predictions]:
    runs = [predictions] if isinstance(predictions, Predictions) else list(predictions)
    if not runs or not all(len(run) for run in runs):
        raise SplitError(
            "Bad test part of 0 clips: there is no figure without a test part; choose a split "
            "that has one."
        )
    if len(runs) != len(seeds) and not (len(runs) == 1 and not seeds):
        raise ConfigError(
            f"Bad seeds {list(seeds)} for {len(runs)} predictions: give one predictions a seed."
        )
    if len({run.emotions for run in runs}) != 1:
        raise ConfigError("Bad predictions: the seeds have different classes; give one task.")
    return runs


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """Concatenated predictions of all runs (seeds)."""

    run: NDArray[np.int64]
    clips: NDArray[np.str_]
    speakers: NDArray[np.str_]
    sexes: NDArray[np.str_]
    groups: NDArray[np.str_]
    seen: NDArray[np.bool_]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.floating]
    emotions: tuple[str, ...]

    @staticmethod
    def of(runs: Sequence[Predictions]) -> _Pool:
        return _Pool(
            run=np.repeat(np.arange(len(runs)), [len(run) for run in runs]),
            clips=np.concatenate([run.clip_ids for run in runs]),
            speakers=np.concatenate([run.speakers for run in runs]),
            sexes=np.concatenate([run.sexes for run in runs]),
            groups=np.concatenate([run.groups for run in runs]),
            seen=np.concatenate([np.asarray(run.seen, dtype=bool) for run in runs]),
            labels=np.concatenate([run.labels for run in runs]),
            predicted=np.concatenate([run.predicted for run in runs]),
            probabilities=np.concatenate([run.probabilities for run in runs]),
            emotions=runs[0].emotions,
        )

    @property
    def by_speaker(self) -> bool:
        return bool((self.speakers != "").any())

    def figure(
        self, statistic: metrics.Statistic, keep: NDArray[np.bool_] | None = None
    ) -> dict[str, Any]:
        rows = np.ones(len(self.labels), dtype=bool) if keep is None else keep
        interval = metrics.bootstrap_interval(
            statistic,
            self.labels[rows],
            self.predicted[rows],
            self.groups[rows].tolist(),
            classes=len(self.emotions),
            runs=self.run[rows],
        )
        return {name: _short(end) for name, end in asdict(interval).items()}

    def figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = {name: self.figure(each) for name, each in STATISTICS.items()}
        figures["uar"]["per_seed"] = [
            _short(metrics.uar(self.labels[rows], self.predicted[rows], len(self.emotions)))
            for rows in self.each_run()
        ]
        return figures

    def each_run(self) -> Iterator[NDArray[np.bool_]]:
        for run in range(int(self.run.max()) + 1):
            yield self.run == run

    def per_class(self) -> dict[str, Any]:
        confusion = metrics.confusion_matrix(self.labels, self.predicted, len(self.emotions))
        support = confusion.sum(1) / (self.run.max() + 1)
        recall, f1 = metrics.recalls_of(confusion), metrics.f1s_of(confusion)
        precision = metrics.precisions_of(confusion)
        return {
            "classes": list(self.emotions),
            "recall": dict(zip(self.emotions, map(_short, recall), strict=True)),
            "precision": dict(zip(self.emotions, map(_short, precision), strict=True)),
            "f1": dict(zip(self.emotions, map(_short, f1), strict=True)),
            "support": dict(zip(self.emotions, map(_short, support), strict=True)),
            "confusion": confusion.tolist(),
        }

    def calibration(self) -> dict[str, Any]:
        errors = [
            metrics.expected_calibration_error(self.probabilities[rows], self.labels[rows])
            for rows in self.each_run()
        ]
        curve = metrics.reliability(self.probabilities, self.labels)
        return {"ece": _short(float(np.mean(errors))), "reliability": [asdict(b) for b in curve]}

    def speaker_fields(self) -> dict[str, Any]:
        seen = {name or "unknown" for name in self.speakers[self.seen].tolist()}
        unit = "speaker" if self.by_speaker else "clip"
        return {"seen_speakers": sorted(seen), "interval_unit": unit}

    def notes(self) -> list[str]:
        notes = []
        unknown = len(set(self.clips[self.speakers == ""]))
        if unknown and self.by_speaker:
            notes.append(f"{unknown} clips of unknown speakers count as a speaker each.")
        silent = set(self.clips[np.ptp(self.probabilities, axis=1) == 0])
        if silent:
            notes.append(
                f"{len(silent)} of {len(set(self.clips))} clips have no prediction (no signal) and "
                f"count as {self.emotions[0]}."
            )
        return notes

    def row(self, keep: NDArray[np.bool_], marks: Sequence[str]) -> dict[str, Any]:
        """Columns that every row of a table has."""
        seen = [SEEN_SPEAKERS] if self.seen[keep].any() else []
        return {"n": len(set(self.clips[keep])), "marks": [*marks, *seen]}

    def per_speaker(self, marks: Sequence[str]) -> dict[str, Any]:
        rows: dict[str, Any] = {}
        for name in sorted(set(self.speakers.tolist()) - {""}):
            keep = self.speakers == name
            value = metrics.uar(self.labels[keep], self.predicted[keep], len(self.emotions))
            rows[name] = {"uar": _short(value), **self.row(keep, marks)}
        return rows

    def per_sex(self, marks: Sequence[str]) -> dict[str, Any]:
        rows: dict[str, Any] = {}
        for name in sorted(set(self.sexes.tolist()) - {""}):
            keep = self.sexes == name
            recall = metrics.recall_per_class(
                self.labels[keep], self.predicted[keep], len(self.emotions)
            )
            rows[name] = {
                "uar": self.figure(metrics.uar_of, keep),
                "recall": dict(zip(self.emotions, map(_short, recall), strict=True)),
                "speakers": len(set(self.speakers[keep].tolist()) - {""}),
                **self.row(keep, marks),
            }
        return rows


def _split_marks(split: str) -> list[str]:
    words = split.replace(",", " ").replace("(", " ").split()
    return [SPLIT_MARKS[word] for word in words[:1] if word in SPLIT_MARKS]


def _short(value: float | None) -> float | None:
    """Round to six decimals; None for NaN, which JSON does not have."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)
