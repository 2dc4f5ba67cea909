"""Text of a figure with its interval."""

from collections.abc import Mapping
from typing import Any

from avser.visualization.numbers import format_share


def format_figure(figure: Mapping[str, Any] | float | None) -> str:
    """Write a share of 1, or a figure with its interval, with three decimals.

    Every table, message, report and card writes UAR, accuracy, F1 and ECE so.

    >>> format_figure({"value": 0.625, "low": 0.5, "high": 0.75})
    '.625 [.500, .750]'
    >>> format_figure(None)
    '–'
    """
    if not isinstance(figure, Mapping):
        return format_share(figure)
    text = format_share(figure["value"])
    if figure.get("low") is None:
        return text
    return f"{text} [{format_share(figure['low'])}, {format_share(figure['high'])}]"


def format_count(count: int, noun: str) -> str:
    """Write a number with its noun, which is regular.

    >>> format_count(1, "speaker"), format_count(1200, "clip")
    ('1 speaker', '1,200 clips')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
