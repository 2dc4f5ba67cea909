"""Metrics (UAR, accuracy, F1, calibration error), and their bootstrap intervals.

All metrics but calibration are functions of confusion matrices ``[..., K, K]`` (rows are the true
class): of one matrix for the value, of a thousand resampled ones for the interval.
N clips · K classes · G groups · R runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from numpy.typing import ArrayLike, NDArray

from avser.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# 4 groups have 35 different draws, too few for tails of 2.5 %; 5 groups have 126.
MIN_GROUPS = 5

Statistic = Callable[[NDArray[np.number]], Floats]  # [..., K, K] -> [...]


@dataclass(frozen=True)
class Figure:
    """A figure and its interval; the ends are None if there are too few groups."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ReliabilityBin:
    """Clips with a confidence in ``(low, high]``; the means are None without clips."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


# Figures over confusion matrices


def recalls_of(confusion: NDArray[np.number]) -> Floats:
    """Recall of each class, ``[..., K, K] -> [..., K]``; NaN for a class without clips."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1))


def uar_of(confusion: NDArray[np.number]) -> Floats:
    """Unweighted average recall over the classes present, ``[..., K, K] -> [...]``."""
    return _mean_of_finite(recalls_of(confusion))


def accuracy_of(confusion: NDArray[np.number]) -> Floats:
    """Share of correct clips, ``[..., K, K] -> [...]``."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1)))


def precisions_of(confusion: NDArray[np.number]) -> Floats:
    """Precision of each class, ``[..., K, K] -> [..., K]``; NaN for a class never predicted."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-2))


def macro_precision_of(confusion: NDArray[np.number]) -> Floats:
    """Mean precision over the classes that are predicted, ``[..., K, K] -> [...]``."""
    return _mean_of_finite(precisions_of(confusion))


def f1s_of(confusion: NDArray[np.number]) -> Floats:
    """F1 of each class, ``[..., K, K] -> [..., K]``; NaN if neither labelled nor predicted."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _ratio(2 * right, confusion.sum(-1) + confusion.sum(-2))


def macro_f1_of(confusion: NDArray[np.number]) -> Floats:
    """Mean F1 over the classes that are labelled or predicted, ``[..., K, K] -> [...]``."""
    return _mean_of_finite(f1s_of(confusion))


def _ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    """Divide; NaN, without a warning, where the whole is 0."""
    ratio = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio


def _mean_of_finite(values: Floats) -> Floats:
    """Mean of the finite values over the last axis; NaN without any."""
    finite = np.isfinite(values)
    return _ratio(np.where(finite, values, 0.0).sum(-1), finite.sum(-1))


# Figures over labels


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """Count clips by true class (rows) and predicted class (columns).

    Args:
        labels: true classes, integers ``[N]``.
        predicted: predicted classes, integers ``[N]``.
        classes: K.

    Returns:
        ``[K, K]`` counts.

    Raises:
        ConfigError: the two differ in length, or a class is not in ``0..K-1``.
    """
    true, guess = _checked(labels, predicted, classes=classes)
    counts = np.bincount(true * classes + guess, minlength=classes * classes)
    return counts.reshape(classes, classes)


def recall_per_class(labels: ArrayLike, predicted: ArrayLike, classes: int) -> Floats:
    """Recall of each class ``[K]``; NaN for a class without clips."""
    return recalls_of(confusion_matrix(labels, predicted, classes))


def uar(labels: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Unweighted average recall: the mean recall over the classes present in ``labels [N]``.

    >>> uar([0, 0, 0, 1], [0, 0, 1, 1], classes=3)
    0.8333333333333333
    """
    return float(uar_of(confusion_matrix(labels, predicted, classes)))


def accuracy(labels: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Share of correct clips."""
    return float(accuracy_of(confusion_matrix(labels, predicted, classes)))


def macro_f1(labels: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Mean F1 over the classes that are labelled or predicted."""
    return float(macro_f1_of(confusion_matrix(labels, predicted, classes)))


# Calibration


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> list[ReliabilityBin]:
    """Compare confidence with accuracy, in bins of confidence.

    Args:
        probabilities: ``[N, K]``; the confidence of a clip is its highest probability.
        labels: true classes, integers ``[N]``.
        bins: number of bins of equal width over 0..1, each open on the left.

    Raises:
        ConfigError: shapes do not fit, or fewer than 1 bin.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or bins < 1:
        raise ConfigError(
            f"Bad calibration input of shape {rows.shape} and {bins} bins: expected [N, K] "
            "probabilities and 1 bin or more."
        )
    true, guess = _checked(labels, rows.argmax(-1), classes=rows.shape[1])
    confidence = rows.max(-1)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sure = _ratio(np.bincount(place, weights=confidence, minlength=bins), counts)
    right = _ratio(np.bincount(place, weights=true == guess, minlength=bins), counts)
    return [
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(counts[i]),
            confidence=float(sure[i]) if counts[i] else None,
            accuracy=float(right[i]) if counts[i] else None,
        )
        for i in range(bins)
    ]


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> float:
    """Mean difference between confidence and accuracy over the bins, weighted by their clips.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3.

    Args:
        probabilities: ``[N, K]``.
        labels: true classes, integers ``[N]``.
        bins: number of bins of equal width.

    Returns:
        0 (calibrated) to 1; NaN without clips.
    """
    curve = reliability(probabilities, labels, bins=bins)
    total = sum(b.count for b in curve)
    gaps = [
        b.count * abs(b.confidence - b.accuracy)
        for b in curve
        if b.confidence is not None and b.accuracy is not None
    ]
    return sum(gaps) / total if total else float("nan")


# Intervals


def bootstrap_interval(
    statistic: Statistic,
    labels: ArrayLike,
    predicted: ArrayLike,
    groups: Sequence[str],
    *,
    classes: int,
    runs: ArrayLike | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Figure:
    """Return a figure with its percentile bootstrap interval over groups.

    Clips of one speaker are correlated, so whole speakers are drawn with replacement: the interval
    is for other speakers, not for other clips of the same speakers.
    In a drawn set without some class, the figure is over the other classes.

    Args:
        statistic: `uar_of`, `accuracy_of`, `macro_f1_of`, or any ``[..., K, K] -> [...]``.
        labels: true classes, integers ``[N]``.
        predicted: predicted classes, integers ``[N]``.
        groups: units of the draw, ``[N]``: speakers, or clip ids if speakers are unknown.
        classes: K.
        runs: training run (seed) of each prediction, ``[N]``; the figure is the mean over runs,
            which share the drawn groups. None is one run.
        samples: number of drawn sets.
        level: coverage of the interval.
        seed: of the draws.

    Returns:
        The figure; its ends are None with fewer than `MIN_GROUPS` groups.

    Raises:
        ConfigError: shapes do not fit, there are no clips, or the level is not between 0 and 1.
    """
    if not 0 < level < 1 or samples < 1:
        raise ConfigError(
            f"Bad interval of level {level} and {samples} samples: the level must lie between 0 "
            "and 1, with 1 sample or more."
        )
    counts = _group_counts(labels, predicted, groups, classes=classes, runs=runs)
    value = float(_mean_of_finite(statistic(counts.sum(1))))
    total = counts.shape[1]
    if total < MIN_GROUPS:
        return Figure(value)
    # Groups with equal counts are drawn as one kind: exact, and fast if each clip is a group.
    rows = rearrange(counts, "r g k l -> g (r k l)")
    kinds, many = np.unique(rows, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(total, many / total, samples)
    drawn = rearrange(
        draws.astype(np.float64) @ kinds, "s (r k l) -> s r k l", k=classes, l=classes
    )
    tail = (1 - level) / 2
    low, high = np.nanquantile(_mean_of_finite(statistic(drawn)), [tail, 1 - tail])
    return Figure(value, float(low), float(high))


def _group_counts(
    labels: ArrayLike,
    predicted: ArrayLike,
    groups: Sequence[str],
    *,
    classes: int,
    runs: ArrayLike | None,
) -> Floats:
    """Count by run and group, ``[R, G, K, K]``; as floats, for fast products."""
    true, guess = _checked(labels, predicted, classes=classes)
    group = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)[1]
    run = np.zeros_like(true)
    if runs is not None:
        run = np.unique(np.asarray(runs), return_inverse=True)[1]
    if not true.size == run.size == group.size or not true.size:
        raise ConfigError(
            f"Bad groups for {true.size} clips: got {group.size} groups and {run.size} runs; "
            "give one of each per clip, and at least one clip."
        )
    shape = (int(run.max()) + 1, int(group.max()) + 1, classes, classes)
    flat = np.ravel_multi_index((run, group, true, guess), shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape)))
    return counts.reshape(shape).astype(np.float64)


def _checked(labels: ArrayLike, predicted: ArrayLike, *, classes: int) -> tuple[Ints, Ints]:
    true = np.asarray(labels, dtype=np.int64)
    guess = np.asarray(predicted, dtype=np.int64)
    if true.ndim != 1 or true.shape != guess.shape:
        raise ConfigError(
            f"Bad labels of shape {true.shape} for predictions of shape {guess.shape}: "
            "expected two rows of one length."
        )
    both = np.concatenate([true, guess])
    if both.size and not 0 <= both.min() <= both.max() < classes:
        raise ConfigError(
            f"Bad class {int(both.min() if both.min() < 0 else both.max())}: expected 0 to "
            f"{classes - 1}; drop clips without a label first."
        )
    return true, guess
