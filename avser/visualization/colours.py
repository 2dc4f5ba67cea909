"""Colours with one meaning everywhere: in figures, annotated clips and pages.

The twelve of the emotions stay apart in CIELAB under simulated protan, deutan and tritan vision;
names stand beside colours all the same.
"""

from collections.abc import Mapping

#: Colour of each emotion.
COLOURS: Mapping[str, str] = {
    "neutral": "#b0b0b0",
    "calm": "#8092f7",
    "happy": "#f7de0d",
    "sad": "#622fdf",
    "angry": "#bd0d0d",
    "fearful": "#691583",
    "disgust": "#105a54",
    "surprised": "#f3a758",
    "bored": "#bbe7ab",
    "excited": "#906ca7",
    "frustrated": "#430d0d",
    "contempt": "#109159",
}
#: Colour of each part of a split.
PARTS: Mapping[str, str] = {"train": "#9a9a9a", "validation": "#3569b0", "test": "#cc3311"}
INK, FAINT, PAPER = "#22262b", "#d9dde2", "#ffffff"
_OTHER = "#777777"


def colour_of(name: str) -> str:
    """Return the colour of an emotion or of a part; grey for any other word.

    >>> colour_of("happy"), colour_of("test"), colour_of("cheerful")
    ('#f7de0d', '#cc3311', '#777777')
    """
    return COLOURS.get(name) or PARTS.get(name, _OTHER)


def rgb_of(name: str) -> tuple[int, int, int]:
    """Return the same as red, green and blue, 0 to 255."""
    text = colour_of(name)
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def is_dark(name: str) -> bool:
    """Whether text on the colour is to be white."""
    red, green, blue = rgb_of(name)
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140
