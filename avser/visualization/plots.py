"""Figures: each function returns a matplotlib `Figure`, drawn off screen.

Colours are those of `avser.visualization.colours`.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from avser.emotions import VOCABULARY
from avser.errors import ConfigError
from avser.files import atomic_write
from avser.visualization.colours import FAINT, INK, PAPER, colour_of
from avser.visualization.numbers import format_share

DPI = 160  # of saved images: sharp in print at the drawn size
COLUMN_IN = 3.3  # of a paper with two columns
_COLUMN_POINTS = (6.0, 7.5)  # text of a figure of that width
FORMATS = ("png", "pdf", "svg")  # the first is the usual one


# Saving


def render(figure: Figure, *, format: str = FORMATS[0], dpi: int = DPI) -> bytes:
    """Render a figure in one of `FORMATS`; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    undated: dict[str, None] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}.get(
        format, {"Date": None}
    )
    # text of a PDF stays text that a journal can embed; names inside an SVG do not vary
    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "avser"}):
        figure.savefig(buffer, format=format, dpi=dpi, facecolor=PAPER, metadata=undated)
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path, *, dpi: int = DPI) -> Path:
    """Write a figure as its path's suffix says, .png, .pdf or .svg, all or nothing.

    Returns:
        The path.

    Raises:
        ConfigError: the suffix is another one.
    """
    path = Path(path)
    image = render(figure, format=figure_format(path), dpi=dpi)
    with atomic_write(path, mode="wb") as file:
        file.write(image)
    return path


def figure_format(path: str | Path) -> str:
    """Return the one of `FORMATS` that a path's suffix names.

    Raises:
        ConfigError: it names none.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        legal = ", ".join(f".{name}" for name in FORMATS)
        raise ConfigError(f"Bad figure name {path}: expected a name that ends in {legal}.")
    return suffix


def to_data_uri(figure: Figure, *, dpi: int = DPI) -> str:
    """Render as a ``data:`` address that a page can hold within itself."""
    return "data:image/png;base64," + base64.b64encode(render(figure, dpi=dpi)).decode("ascii")


# Figures of an evaluation


def confusion_figure(confusion: ArrayLike, emotions: Sequence[str]) -> Figure:
    """Draw a confusion matrix: counts, coloured by their share of the true class.

    Args:
        confusion: counts ``[K, K]``, rows are the true class.
        emotions: the K classes.

    Raises:
        ConfigError: the matrix is not ``[K, K]``.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    size = len(emotions)
    if counts.shape != (size, size):
        raise ConfigError(f"Bad confusion matrix {counts.shape}: expected ({size}, {size}).")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.62 * size
    figure = sheet(side + 0.9, side)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in itertools.product(range(size), repeat=2):
        if counts[row, column]:
            text = f"{counts[row, column]}\n{format_share(share[row, column])}"
            colour = PAPER if share[row, column] > 0.55 else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(range(size), emotions, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), emotions)
    axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=PAPER, linewidth=1.5)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="Predicted class", ylabel="True class")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="Share of the true class")
    bar.outline.set_visible(False)
    return figure


def reliability_figure(bins: Sequence[Mapping[str, float | None]], *, ece: float | None) -> Figure:
    """Draw accuracy against confidence, and how many clips have that confidence.

    Args:
        bins: each with ``low, high, count, confidence, accuracy`` (`metrics.reliability`).
        ece: expected calibration error, 0 to 1, or None.
    """
    figure = sheet(4.8, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    used = [b for b in bins if b["count"]]
    left = np.array([b["low"] for b in used], dtype=float)
    width = np.array([b["high"] for b in used], dtype=float) - left
    sure = np.array([b["confidence"] for b in used], dtype=float)
    right = np.array([b["accuracy"] for b in used], dtype=float)
    upper.bar(left, right, width, align="edge", color="#3569b0", edgecolor=PAPER, label="accuracy")
    upper.vlines(sure, np.minimum(sure, right), np.maximum(sure, right), color="#cc3311", lw=2)
    upper.plot(sure, sure, "o", color="#cc3311", ms=4, label="mean confidence, and its gap")
    upper.plot([0, 1], [0, 1], color=INK, lw=1, ls=(0, (4, 3)), label="calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="Accuracy")
    if ece is not None:
        upper.set_title(f"Expected calibration error {format_share(ece)}", fontsize=10, loc="left")
    upper.legend(loc="upper left", fontsize=8, framealpha=0.9, edgecolor=PAPER)
    clips = [float(b["count"] or 0) for b in used]
    lower.bar(left, clips, width, align="edge", color="#9a9a9a", edgecolor=PAPER)
    lower.set(xlabel="Confidence (highest probability)", ylabel="Clips")
    plain(upper, lower)
    return figure


def curves_figure(history: Mapping[str, Sequence[float]], *, stacked: bool = False) -> Figure:
    """Draw loss, UAR and accuracy over the epochs, for the training and the validation part.

    Args:
        history: one value an epoch (NaN where there is none), under names such as
            ``train_loss``, ``validation_loss``, ``train/uar``, ``val_uar``; what has no values
            has no panel, save for loss and UAR.
        stacked: panels below one another, for a column, and not side by side.
    """
    named = {"loss": "Loss", "uar": "UAR", "accuracy": "Accuracy"}
    if not list(_curves(history, "accuracy")):
        del named["accuracy"]
    count = len(named)
    figure = sheet(4.6, 2.3 * count) if stacked else sheet(1.0 + 3.8 * count, 3.4)
    for place, (quantity, label) in enumerate(named.items()):
        axes = figure.add_subplot(*((count, 1) if stacked else (1, count)), place + 1)
        for part, values in _curves(history, quantity):
            epochs = np.arange(1, len(values) + 1)
            keep, colour = np.isfinite(values), colour_of(part)
            marker = "o" if keep.sum() < 3 else None  # a line needs two points to be seen
            axes.plot(epochs[keep], values[keep], color=colour, lw=1.8, marker=marker, label=part)
            if quantity == "uar" and part == "validation" and keep.any():
                best = int(np.nanargmax(values))
                axes.plot(best + 1, values[best], "o", color=colour, ms=6)
                title = f"highest on validation: {format_share(values[best])}, epoch {best + 1}"
                axes.set_title(title, fontsize=9, loc="left")
        axes.set(xlabel="Epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes)
        plain(axes)
    return figure


def _curves(
    history: Mapping[str, Sequence[float]], quantity: str
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Find the series of a quantity, by part."""
    for name, values in history.items():
        part, _, what = name.replace("/", "_").partition("_")
        if what == quantity and len(values):
            part = {"val": "validation", "valid": "validation", "training": "train"}.get(part, part)
            yield part, np.asarray(values, dtype=np.float64)


# Figures of a corpus


def class_counts_figure(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw how many clips of each class each part has.

    Args:
        counts: part to emotion to clips.
    """
    result = {emotion for part in counts.values() for emotion in part}
    emotions = [e for e in VOCABULARY if e in result] + sorted(result - set(VOCABULARY))
    figure = sheet(1.8 + 0.85 * max(len(emotions), 3), 3.4)
    axes = figure.add_subplot()
    width = 0.8 / max(len(counts), 1)
    for place, (part, by_class) in enumerate(counts.items()):
        x = np.arange(len(emotions)) - 0.4 + width * (place + 0.5)
        heights = [by_class.get(emotion, 0) for emotion in emotions]
        axes.bar(x, heights, width * 0.92, color=colour_of(part), label=part)
    axes.set_xticks(range(len(emotions)), emotions, rotation=30, ha="right", rotation_mode="anchor")
    axes.set(ylabel="Clips")
    if counts:
        figure.legend(loc="outside upper right", ncols=3, fontsize=8.5, frameon=False)
    plain(axes)
    return figure


def durations_figure(durations_s: Mapping[str, Sequence[float]]) -> Figure:
    """Draw how long the clips of each part are.

    Args:
        durations_s: part to the lengths of its clips in seconds.
    """
    figure = sheet(6.4, 3.2)
    axes = figure.add_subplot()
    rows = {part: np.asarray(v, dtype=np.float64) for part, v in durations_s.items() if len(v)}
    if rows:
        edges = np.histogram_bin_edges(np.concatenate(list(rows.values())), bins=40).tolist()
        for part, values in rows.items():
            label = f"{part}: median {np.median(values):.2f} s"
            axes.hist(values, edges, histtype="stepfilled", color=colour_of(part), alpha=0.25)
            axes.hist(values, edges, histtype="step", color=colour_of(part), lw=1.5, label=label)
    axes.set(xlabel="Duration, s", ylabel="Clips")
    if rows:
        figure.legend(loc="outside upper right", ncols=3, fontsize=8.5, frameon=False)
    plain(axes)
    return figure


def sheet(width: float, height: float) -> Figure:
    """Make an empty figure, in inches, with a margin."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=0.02, hspace=0.02)
    return Figure(figsize=(width, height), layout=layout)


def fit_to_column(figure: Figure, *, width: float = COLUMN_IN) -> Figure:
    """Make a figure as wide as a column of a paper, with text that is read at that size.

    Args:
        figure: drawn by this package; it is changed.
        width: in inches.
    """
    before, height = figure.get_size_inches()
    if before <= width:
        return figure
    shrink = width / before
    # text shrinks less than the picture, so that a little more height is left to the data
    figure.set_size_inches(width, height * min(1.0, shrink * 1.12))
    least, most = _COLUMN_POINTS
    for text in figure.findobj(Text):
        text.set_fontsize(min(most, max(least, text.get_fontsize() * shrink)))
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(w_pad=0.03, h_pad=0.03)
    return figure


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8.5, frameon=False)


def plain(*many: Axes) -> None:
    """Leave the two lines that carry a scale, and a faint grid behind the data."""
    for axes in many:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#8a9099")
        axes.tick_params(colors=INK, labelsize=8.5)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
