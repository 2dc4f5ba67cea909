"""A picture of the first layer's filters, best first by each ranking."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from avser.visualization.colours import INK
from avser.visualization.filters import MEANINGS, rankings
from avser.visualization.plots import sheet

_PLANES = {2: ("long window (pitch)", "short window (formants)")}


def filters_figure(filters: Tensor, *, title: str, count: int = 12) -> Figure:
    """Draw the filters that rank highest, a row of them for each ranking.

    Each filter has its planes side by side, rows from low to high, on a colour scale of its own
    that is 0 in the middle: energy at red places raises the output, at blue ones it lowers it.

    Args:
        filters: ``[n, C, M, F]``.
        title: of the picture.
        count: filters of each ranking.
    """
    many, planes, rows, frames = filters.shape
    count = min(count, many)
    scores = rankings(filters)
    high = min(3.2, max(1.1, 0.045 * rows))
    figure = sheet(1.4 + 0.95 * count, (high + 0.75) * len(scores) + 0.8)
    words = _PLANES.get(planes, tuple(f"plane {i + 1}" for i in range(planes)))
    about = f"{many} filters of {planes} x {rows} x {frames}"
    if planes > 1:
        about += f"; in each, from the left: {', '.join(words)}"
    figure.suptitle(f"{title}\n{about}", fontsize=10, color=INK)
    bands = figure.subfigures(len(scores), 1, squeeze=False)[:, 0]
    for band, (name, score) in zip(bands, scores.items(), strict=True):
        wrapped = textwrap.fill(f"{name}: {MEANINGS[name]}", 30 + 14 * count)
        band.suptitle(wrapped, fontsize=8.5, x=0.01, ha="left", color=INK)
        best = score.argsort(descending=True)[:count].tolist()
        for axes, index in zip(band.subplots(1, count, squeeze=False)[0], best, strict=True):
            image = _side_by_side(filters[index].numpy())
            reach = float(np.nanmax(np.abs(image))) or 1.0
            axes.imshow(
                image, cmap="RdBu_r", vmin=-reach, vmax=reach, origin="lower", aspect="auto"
            )
            axes.set_title(f"no. {index}\n{float(score[index]):.2f}", fontsize=7.5, color=INK)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    return figure


def _side_by_side(planes: np.ndarray) -> np.ndarray:
    """Join ``[C, M, F]`` to ``[M, C F + gaps]``, a gap of one frame between planes."""
    gap = np.full((planes.shape[1], 1), np.nan)
    parts = [piece for plane in planes for piece in (plane, gap)]
    return np.concatenate(parts[:-1], axis=1)
