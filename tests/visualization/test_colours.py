"""Colours of emotions under simulated colour blindness."""

import itertools

import numpy as np
import pytest

from avser.emotions import VOCABULARY
from avser.visualization.colours import COLOURS, PARTS, colour_of, is_dark, rgb_of

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
VISION = {
    "usual": np.eye(3),
    "protan": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deutan": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritan": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.95047, 1.0, 1.08883])
APART = 20.0  # distance in CIELAB; two patches side by side differ from about 2 on


def lab(name: str, vision: np.ndarray) -> np.ndarray:
    """L, a, b of a colour as it is seen."""
    shares = np.array(rgb_of(name)) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    x = TO_XYZ @ np.clip(vision @ linear, 0, 1) / WHITE
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("names", [tuple(COLOURS), tuple(PARTS)], ids=["emotions", "parts"])
def test_colours_stay_apart(names: tuple[str, ...], vision: str) -> None:
    seen = {name: lab(name, VISION[vision]) for name in names}
    for one, other in itertools.combinations(names, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > APART, f"{one} and {other}"


def test_every_emotion_has_one_and_other_words_are_grey() -> None:
    assert tuple(COLOURS) == VOCABULARY
    assert colour_of("another") not in {*COLOURS.values(), *PARTS.values()}
    assert rgb_of("angry") == (0xBD, 0x0D, 0x0D)
    assert is_dark("angry") and not is_dark("happy")
