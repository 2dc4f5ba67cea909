"""Several models as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avser.emotions import ordered
from avser.errors import ConfigError
from avser.inference.predictor import FaceChoice, Failure, Modality, Predictor, Progress
from avser.types import Prediction, TimelineEntry

Shares = Mapping[str, float]


def mean_prediction(answers: Sequence[Prediction]) -> Prediction:
    """Join what models answered for one clip.

    A model that heard and saw nothing has no say, nor has it in a step of which it says nothing.

    Raises:
        ConfigError: the models have different classes.
    """
    found = [a.probabilities for a in answers if a.probabilities is not None]
    shares = _mean(found)
    used = {m for a in answers for m in a.modalities}
    whole = max(answers, key=lambda a: len(a.timeline)).timeline
    first = answers[0]
    return replace(
        first,
        label=_label(shares),
        probabilities=shares,
        modalities=tuple(m for m in ("audio", "video") if m in used),
        reason=next((a.reason for a in answers if a.reason is None), first.reason),
        timeline=tuple(
            _step(entry, [a.timeline[i] for a in answers if i < len(a.timeline)])
            for i, entry in enumerate(whole)
        ),
        model=" + ".join(a.model for a in answers),
        boxes=next((a.boxes for a in answers if a.boxes), ()),
        faces=None,
    )


def _step(entry: TimelineEntry, entries: Sequence[TimelineEntry]) -> TimelineEntry:
    shares = _mean([e.probabilities for e in entries if e.probabilities is not None])
    return replace(entry, label=_label(shares), probabilities=shares)


def _mean(shares: Sequence[Shares]) -> Shares | None:
    kinds = {frozenset(each) for each in shares}
    if len(kinds) > 1:
        raise ConfigError("Bad ensemble: its models have different classes; choose others.")
    if not shares:
        return None
    names = ordered(shares[0])
    return {name: sum(each[name] for each in shares) / len(shares) for name in names}


def _label(shares: Shares | None) -> str | None:
    return None if shares is None else max(shares, key=lambda name: shares[name])


class Ensemble:
    """Classifies files with several predictors and gives the mean of their probabilities.

    Args:
        predictors: one a model; the first answers what is not a mean, such as boxes.

    Raises:
        ConfigError: their classes differ.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        kinds = {frozenset(p.net.emotions) for p in predictors}
        if len(kinds) != 1:
            raise ConfigError("Bad ensemble: its models have different classes; choose others.")
        self.predictors = list(predictors)
        self.detector = predictors[0].detector

    def enrol(self, files: Sequence[str | Path]) -> None:
        """See `Predictor.enrol`."""
        for predictor in self.predictors:
            predictor.enrol(files)

    def classify(
        self,
        paths: Iterable[str | Path],
        *,
        modality: Modality = "auto",
        faces: FaceChoice = "main",
        workers: int = 2,
        progress: Progress | None = None,
    ) -> Iterator[Prediction | Failure]:
        """See `Predictor.classify`: a file fails where any model fails."""
        rows = list(paths)
        runs = [
            p.classify(rows, modality=modality, faces=faces, workers=workers, progress=progress)
            for p in self.predictors
        ]
        for answers in zip(*runs, strict=True):
            failed = next((a for a in answers if isinstance(a, Failure)), None)
            yield failed or mean_prediction([a for a in answers if isinstance(a, Prediction)])
