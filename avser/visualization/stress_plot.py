"""The picture of a stress table."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from avser.errors import ConfigError
from avser.visualization.colours import FAINT, INK, PARTS
from avser.visualization.numbers import format_share
from avser.visualization.plots import plain, sheet


def stress_figure(stress: Mapping[str, Mapping[str, Any]], *, title: str = "") -> Figure:
    """Draw the UAR of each condition with its interval, and the clean one as a line.

    Args:
        stress: condition to figures, as ``summary["stress"]`` holds them; the first is clean.
        title: over the picture.

    Raises:
        ConfigError: there is no condition.
    """
    if not stress:
        raise ConfigError("Bad stress table: it has no condition; measure some first.")
    names = list(stress)
    values = [float(stress[name]["uar"]["value"]) for name in names]
    figure = sheet(7.0, 0.6 + 0.32 * len(names))
    axes = figure.add_subplot()
    places = list(range(len(names)))[::-1]
    colours = [PARTS["validation" if i else "train"] for i in range(len(names))]
    axes.barh(places, values, color=colours, height=0.66)
    for place, name, value in zip(places, names, values, strict=True):
        low, high = stress[name]["uar"]["low"], stress[name]["uar"]["high"]
        end = value
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color="#111111", linewidth=1.2)
            end = float(high)
        axes.text(
            max(end, value) + 0.01, place, format_share(value), va="center", color=INK, fontsize=9
        )
    axes.axvline(values[0], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(places, names)
    axes.set_xlim(0, 1.09)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_xlabel("UAR (line: 95 % interval)")
    plain(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.tick_params(axis="y", length=0)
    if title:
        axes.set_title(title, loc="left", fontsize=11)
    return figure
