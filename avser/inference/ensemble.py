"""Mean of the probabilities of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avser.emotions import ordered
from avser.errors import ConfigError
from avser.inference.classifier import ClipClassifier, Request
from avser.inference.predictor import Predictor
from avser.media.clip import CENTRING_MARKS, DISAGREEMENT, LoadedClip, disagreement
from avser.types import Prediction, TimelineEntry

Shares = Mapping[str, float]


def mean_prediction(predictions: Sequence[Prediction]) -> Prediction:
    """Join several models' predictions of one clip.

    A model without signal is left out of the mean, as is a step without a label.

    Raises:
        ConfigError: the models have different classes.
    """
    shares = _mean([p.probabilities for p in predictions if p.probabilities is not None])
    label = _label(shares)
    used = {m for p in predictions for m in p.modalities}
    longest = max(predictions, key=lambda p: len(p.timeline)).timeline
    timeline = tuple(
        _mean_step(entry, [p.timeline[i] for p in predictions if i < len(p.timeline)])
        for i, entry in enumerate(longest)
    )
    return replace(
        predictions[0],
        label=label,
        probabilities=shares,
        modalities=tuple(m for m in ("audio", "video") if m in used),
        reason="no_signal" if label is None else _reason(predictions, label, timeline),
        timeline=timeline,
        model=" + ".join(p.model for p in predictions),
        boxes=next((p.boxes for p in predictions if p.boxes), ()),
        faces=None,
    )


def _reason(
    predictions: Sequence[Prediction], label: str, timeline: Sequence[TimelineEntry]
) -> str | None:
    """Give what holds for every model that predicted, and whether the mean disagrees itself.

    That a face is centred is given if it holds for any of them.
    """
    parts = [(p.reason or "").split("; ") for p in predictions if p.probabilities is not None]
    shared = [w for w in parts[0] if w and all(w in other for other in parts)]
    kept = [w for w in shared if not w.startswith(DISAGREEMENT)]
    marks = {word for each in parts for word in each} - set(kept)
    kept += [mark for mark in CENTRING_MARKS if mark in marks]
    return "; ".join([*kept, *disagreement(label, timeline)]) or None


def _mean_step(entry: TimelineEntry, entries: Sequence[TimelineEntry]) -> TimelineEntry:
    shares = _mean([e.probabilities for e in entries if e.probabilities is not None])
    return replace(entry, label=_label(shares), probabilities=shares)


def _mean(shares: Sequence[Shares]) -> Shares | None:
    if len({frozenset(each) for each in shares}) > 1:
        raise ConfigError("Bad ensemble: its models have different classes; choose others.")
    if not shares:
        return None
    names = ordered(shares[0])
    return {name: sum(each[name] for each in shares) / len(shares) for name in names}


def _label(shares: Shares | None) -> str | None:
    return None if shares is None else max(shares, key=lambda name: shares[name])


class Ensemble(ClipClassifier):
    """Classifies files with several predictors and gives the mean of their probabilities.

    A file is loaded once for all of them.

    Args:
        predictors: one a model; the first one's detector finds the faces.

    Raises:
        ConfigError: their classes differ.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        if len({frozenset(p.net.emotions) for p in predictors}) != 1:
            raise ConfigError("Bad ensemble: its models have different classes; choose others.")
        self.predictors = list(predictors)

    @property
    def emotions(self) -> tuple[str, ...]:
        """See `ClipClassifier.emotions`."""
        return self.predictors[0].emotions

    def enrol(self, files: Sequence[str | Path], *, own: bool = False) -> None:
        """See `Predictor.enrol`."""
        for predictor in self.predictors:
            predictor.enrol(files, own=own)

    def check(self, request: Request) -> None:
        """See `ClipClassifier.check`."""
        for predictor in self.predictors:
            predictor.check(request)

    def load(self, path: str, request: Request) -> LoadedClip:
        """See `ClipClassifier.load`."""
        looking = [p for p in self.predictors if p.looks_for_faces(request)]
        clip = (looking or self.predictors)[0].load(path, request)
        for predictor in self.predictors:
            clip.features = clip.features or predictor.features_for(path, request)
        return clip

    def predict(self, clips: Sequence[LoadedClip], request: Request) -> list[Prediction]:
        """See `ClipClassifier.predict`."""
        rows = [p.predict(clips, request) for p in self.predictors]
        return [mean_prediction(each) for each in zip(*rows, strict=True)]
