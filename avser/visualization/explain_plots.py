"""Figures of what decided a prediction, on one time axis: steps, spectrogram, faces."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from avser.types import STEP_S
from avser.visualization.attribution import Explanation
from avser.visualization.colours import INK, colour_of
from avser.visualization.plots import plain, sheet

_MOST_FACES = 8  # in a row: their regions are still seen at column width


def explanation_figure(explanation: Explanation, *, title: str = "") -> Figure:
    """Draw all parts below one another.

    Args:
        explanation: of a clip.
        title: over the figure, before the emotion and its probability.
    """
    parts = [_steps]
    heights = [1.3]
    if explanation.spectrogram is not None:
        parts.append(_spectrogram)
        heights.append(1.9)
    if explanation.faces is not None:
        parts.append(_faces)
        heights.append(1.2)
    figure = sheet(6.8, 0.7 + sum(heights))
    rows = figure.subplots(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, draw in zip(rows, parts, strict=True):
        draw(axes, explanation)
    words = f"{explanation.emotion}, {100 * explanation.probability:.0f} %"
    figure.suptitle(f"{title}: {words}" if title else words, fontsize=9, x=0.01, ha="left")
    return figure


def explanation_figures(explanation: Explanation) -> dict[str, Figure]:
    """Draw each part by itself: "steps", and "spectrogram" and "faces" where they are there."""
    figures = {}
    named = {"steps": (_steps, 1.9), "spectrogram": (_spectrogram, 2.3), "faces": (_faces, 1.5)}
    for name, (draw, height) in named.items():
        if name == "steps" or getattr(explanation, name) is not None:
            figures[name] = sheet(6.8, height)
            draw(figures[name].add_subplot(), explanation)
    return figures


def _steps(axes: Axes, explanation: Explanation) -> None:
    """Bars of the probability that is lost without a step, and dots of the attention."""
    index = np.flatnonzero(explanation.mask)
    middle = (index + 0.5) * STEP_S
    colour = colour_of(explanation.emotion)
    lost = explanation.lost[index]
    axes.bar(middle, lost, 0.86 * STEP_S, color=colour, edgecolor=INK, linewidth=0.5)
    axes.axhline(0, color=INK, linewidth=0.6)
    low, high = min(0.0, float(lost.min(initial=0.0))), max(1e-3, float(lost.max(initial=0.0)))
    axes.set(xlim=(0, len(explanation.mask) * STEP_S), ylim=(1.1 * low, 1.1 * high))
    axes.set_ylabel("Probability lost", fontsize=8.5)
    plain(axes)
    words = f"Bars: probability of {explanation.emotion} that is lost without the step"
    if explanation.attention is not None:
        words += "; line: attention"
        twin = axes.twinx()
        weights = explanation.attention[index]
        most = 1.1 * max(float(weights.max(initial=0.0)), 1e-3)
        twin.plot(middle, weights, "o-", color=INK, ms=3, lw=0.8)
        twin.set_ylim(most * low / high, most)  # zeros of both scales at one height
        twin.set_yticks([tick for tick in twin.get_yticks() if 0 <= tick <= most])
        twin.set_ylabel("Attention", fontsize=8.5)
        twin.spines[["top", "left", "bottom"]].set_visible(False)
        twin.tick_params(colors=INK, labelsize=8.5)
    _caption(axes, words)


def _caption(axes: Axes, words: str) -> None:
    axes.set_title(words, fontsize=8, loc="left", color=INK, pad=4)


def _spectrogram(axes: Axes, explanation: Explanation) -> None:
    """The spectrogram in grey, and over it in colour where the map is high."""
    values = explanation.spectrogram
    if values is None:
        return
    rows, frames = values.shape
    extent = (0.0, frames * explanation.hop_s, -0.5, rows - 0.5)
    low, high = np.nanpercentile(values, [2, 99.5])
    axes.imshow(
        values, origin="lower", aspect="auto", cmap="gray_r", vmin=low, vmax=high, extent=extent
    )
    words = "The spectrogram; this voice model has no convolution over it to map"
    if explanation.audio_map is not None:
        words = "Grad-CAM over the spectrogram, from nothing (dark) to its maximum (yellow)"
        axes.imshow(
            explanation.audio_map,
            origin="lower",
            aspect="auto",
            cmap="inferno",
            vmin=0,
            vmax=1,
            alpha=_transparent_below(explanation.audio_map),
            extent=extent,
        )
    axes.set(ylabel="Row")
    _caption(axes, words)
    if explanation.row_hz is not None:
        marks = _frequency_marks(explanation.row_hz)
        axes.set_yticks([place for place, _ in marks], [text for _, text in marks])
        axes.set_ylabel("Frequency, kHz", fontsize=8.5)
    axes.set_xlabel("Time, s", fontsize=8.5)
    axes.tick_params(colors=INK, labelsize=8.5)


def _transparent_below(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Opacity of a map: what is low lets the picture below through."""
    return (0.75 * np.clip(maps, 0, 1) ** 0.7).astype(np.float32)


def _frequency_marks(row_hz: NDArray[np.float32]) -> list[tuple[float, str]]:
    """Rows and texts of round frequencies inside the range."""
    steps = (0.25, 0.5, 1, 2, 3, 4, 6, 8) if row_hz[-1] > 3_000 else (0.1, 0.5, 1, 1.5, 2)
    inside = [khz for khz in steps if row_hz[0] <= 1_000 * khz <= row_hz[-1]]
    places = np.interp([1_000 * khz for khz in inside], row_hz, np.arange(len(row_hz)))
    return [(float(place), f"{khz:g}") for place, khz in zip(places, inside, strict=True)]


def _faces(axes: Axes, explanation: Explanation) -> None:
    """A row of faces, evenly chosen over the clip, with the map over them and their time below."""
    crops, times = explanation.faces, explanation.face_times_s
    if crops is None or times is None:
        return
    chosen = np.unique(np.linspace(0, len(crops) - 1, min(_MOST_FACES, len(crops))).round())
    side = crops.shape[1] / crops.shape[2]
    for place, index in enumerate(chosen.astype(int)):
        extent = (place + 0.03, place + 0.97, 0.0, 0.94 * side)
        grey = crops[index].mean(axis=-1)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
        if explanation.face_maps is not None:
            face_map = explanation.face_maps[index]
            axes.imshow(
                face_map,
                cmap="inferno",
                vmin=0,
                vmax=1,
                alpha=_transparent_below(face_map),
                extent=extent,
            )
    axes.set(xlim=(0, max(len(chosen), _MOST_FACES)), ylim=(0, 0.97 * side), yticks=[])
    axes.set_aspect("equal")
    _caption(axes, "Grad-CAM over the face")
    labels = [f"{times[i]:.1f} s" for i in chosen.astype(int)]
    axes.set_xticks(np.arange(len(chosen)) + 0.5, labels)
    axes.tick_params(length=0, colors=INK, labelsize=8.5)
    axes.spines[:].set_visible(False)
