"""Figures of one clip, drawn as those of `avser.visualization.plots` are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from avser.types import Prediction, TimelineEntry
from avser.visualization.colours import FAINT, INK, PAPER, colour_of, is_dark
from avser.visualization.plots import plain, sheet

_FACE_POINTS = 34  # side of a face
_HALF_FACE = 0.048  # half of it as a share of the time axis


def waveform_figure(
    samples: ArrayLike,
    spectrograms: Sequence[tuple[str, ArrayLike]],
    *,
    sample_rate: int,
    hop_s: float,
    fmax_hz: float,
) -> Figure:
    """Draw a clip's sound above its spectrograms, on one time axis.

    Args:
        samples: ``[S]``, -1..1.
        spectrograms: name and plane ``[M, F]`` of each, rows linear in frequency from 0 up.
        sample_rate: of the samples, in Hz.
        hop_s: seconds between frames.
        fmax_hz: frequency of the top row.
    """
    wave = np.asarray(samples, dtype=np.float64)
    figure = sheet(6.4, 1.5 + 1.7 * len(spectrograms))
    heights = [1.1] + [2.0] * len(spectrograms)
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    rows[0].plot(np.arange(wave.size) / sample_rate, wave, color="#3569b0", lw=0.6)
    rows[0].set(ylabel="Amplitude", xlim=(0, max(wave.size, 1) / sample_rate))
    peak = max(float(np.abs(wave).max(initial=0.0)), 1e-3) * 1.08
    rows[0].set_ylim(-peak, peak)
    plain(rows[0])
    for axes, (name, plane) in zip(rows[1:], spectrograms, strict=True):
        values = np.asarray(plane, dtype=np.float64)
        image = axes.imshow(
            values,
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0, values.shape[1] * hop_s, 0, fmax_hz / 1000),
            interpolation="nearest",
        )
        axes.set(ylabel="Frequency, kHz")
        axes.set_title(name, fontsize=9, loc="left", color=INK)
        bar = figure.colorbar(image, ax=axes, pad=0.01, label="Level, log")
        bar.outline.set_visible(False)
    rows[-1].set_xlabel("Time, s")
    return figure


def timeline_figure(
    prediction: Prediction, *, faces: Sequence[tuple[float, ArrayLike]] = ()
) -> Figure:
    """Draw the probabilities over time, with the strip of labels below.

    Args:
        prediction: of a clip.
        faces: seconds and picture ``[H, W, 3]`` of sampled faces, drawn under their time.
    """
    figure = sheet(6.4, 4.0 if faces else 3.1)
    heights = [6, 1, 1.9] if faces else [6, 1]
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    upper, strip = rows[:2]
    steps = prediction.timeline
    emotions = list(next((s.probabilities for s in steps if s.probabilities), {}))
    # Two points a step: constant within it, and no value where there was nothing to judge.
    times = [second for step in steps for second in (step.start_s, step.end_s)]
    base = np.zeros(len(times))
    for emotion in emotions:
        share = [(step.probabilities or {}).get(emotion, np.nan) for step in steps]
        top = base + np.repeat(share, 2)
        upper.fill_between(times, base, top, color=colour_of(emotion), linewidth=0)
        base = top
    end_s = max([prediction.duration_s, *(s.end_s for s in steps)])
    upper.set(xlim=(0, end_s or 1.0), ylim=(0, 1), ylabel="Probability")
    handles = [Patch(color=colour_of(e), label=e) for e in reversed(emotions)]
    if handles:
        figure.legend(handles=handles, loc="outside right upper", fontsize=8.5, frameon=False)
    else:
        upper.text(0.5, 0.5, "no signal", transform=upper.transAxes, ha="center", color=INK)
    if prediction.label and prediction.probabilities:
        percent = 100 * prediction.probabilities[prediction.label]
        upper.set_title(f"{prediction.label}, {percent:.0f} %", fontsize=10, loc="left")
    for start_s, stop_s, label in _stretches(steps):
        _band(strip, start_s, stop_s, label, end_s=end_s)
    strip.set(ylim=(0, 1), yticks=[], ylabel="Label")
    rows[-1].set_xlabel("Time, s")
    plain(upper)
    strip.spines[:].set_visible(False)
    if faces:
        _faces(rows[2], faces)
    return figure


def _faces(axes: Axes, faces: Sequence[tuple[float, ArrayLike]]) -> None:
    """Pictures in a row, each centred under its time, as far as the row reaches."""
    axes.set(ylim=(0, 1), yticks=[], ylabel="Face")
    axes.spines[:].set_visible(False)
    end_s = axes.get_xlim()[1]
    for time_s, picture in faces:
        image = np.asarray(picture)
        box = OffsetImage(image, zoom=_FACE_POINTS / max(image.shape[:2]))
        inside_s = min(max(time_s, _HALF_FACE * end_s), (1 - _HALF_FACE) * end_s)
        artist = AnnotationBbox(box, (inside_s, 0.5), frameon=False, annotation_clip=False, pad=0)
        axes.add_artist(artist)


def _stretches(steps: Sequence[TimelineEntry]) -> Iterator[tuple[float, float, str | None]]:
    """Join neighbouring steps of one label."""
    for label, group in itertools.groupby(steps, key=lambda step: step.label):
        members = list(group)
        yield members[0].start_s, members[-1].end_s, label


def _band(axes: Axes, start_s: float, stop_s: float, label: str | None, *, end_s: float) -> None:
    hatch = None if label else "////"
    face = colour_of(label) if label else PAPER
    axes.axvspan(start_s, stop_s, facecolor=face, edgecolor=PAPER if label else FAINT, hatch=hatch)
    if label and (stop_s - start_s) / end_s > 0.02 * len(label):
        middle, ink = (start_s + stop_s) / 2, PAPER if is_dark(label) else INK
        axes.text(middle, 0.5, label, ha="center", va="center", fontsize=8, color=ink)
