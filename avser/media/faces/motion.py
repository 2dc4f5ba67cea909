"""Movement of lips between sampled frames, and the choice of who speaks.

Crops are upright and framed alike, so that a mouth lies in the same place of each. Movement of a
part from one frame to the next is 1 less the highest normalised correlation within a few pixels:
neither light nor a jitter of the crop counts. Measured between frames a quarter of a second apart:

| | median movement of the lips |
|---|---|
| speaking (two RAVDESS clips, voiced parts) | .10 and .16 |
| silent parts of the same clips | .02 and .04 |
| silent seconds of three such clips, in a loop beside a voice | .015 to .028 |
| the same, 213 pixels wide and strongly compressed | .020 to .046 |
| the speaking clips, 213 pixels wide and strongly compressed | .108 and .159 |
| a photograph that is moved about, or with noise | .012 to .031 |
| a photograph that is held, encoded again | under .001 |

So moving lips differ from resting lips, and a held picture from a moving one. A photograph that is
moved about does not differ from a living person who is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from avser.types import SILENCE_DBFS

Image = NDArray[np.uint8]
Values = NDArray[np.float64]

COMPARED_SIDE = 112  # pixels at which parts are compared
LIPS_REACH = 5  # pixels by which a part may be off its place
LIPS_PLACE = (0.64, 0.95, 0.25, 0.75)  # top, bottom, left, right as shares of the crop
LEAST_DEVIATION = 1.0  # deviation of grey levels under which there is nothing to compare

STILL = 0.01  # median movement of lips under which a picture does not change
MOVING = 0.045  # median movement of lips from which they move
_LEAST_SHARE = 0.05  # weight of a face that does not change, of a moving one's

_VOICED_DB = 25.0  # under the loud parts: syllables; pauses and rooms lie lower
_LOUD = 95  # percentile of the levels
_LEAST_PAIRS = 3  # pairs of frames with voice between them, to decide whether a person speaks
_MORE = 1.5  # factor by which another person's lips move more than the heaviest person's


@dataclass(frozen=True)
class SoundLevels:
    """Levels of a clip's sound in short, equal parts.

    Attributes:
        dbfs: ``[n]`` level of each part.
        hop_s: length of a part in seconds.
    """

    dbfs: Values
    hop_s: float

    @cached_property
    def _least(self) -> float:
        """Level above which a part is about as loud as speech is in this clip."""
        return max(SILENCE_DBFS, float(np.percentile(self.dbfs, _LOUD)) - _VOICED_DB)

    def voiced(self, start_s: float, end_s: float) -> bool:
        """Whether at least half of an interval is about as loud as speech is in this clip."""
        first, last = int(start_s / self.hop_s), int(np.ceil(end_s / self.hop_s))
        part = self.dbfs[first:last]
        return len(part) > 0 and bool((part > self._least).mean() >= 0.5)


def lip_movement(before: Image, after: Image) -> float:
    """Movement of the lips from one crop ``[s, s, 3]`` of a face to the next, 0..2."""
    import cv2

    top, bottom, left, right = (round(COMPARED_SIDE * share) for share in LIPS_PLACE)
    template = _grey(before)[top:bottom, left:right]
    rows, columns = (
        slice(top - LIPS_REACH, bottom + LIPS_REACH),
        slice(left - LIPS_REACH, right + LIPS_REACH),
    )
    around = _grey(after)[rows, columns]
    if template.std() < LEAST_DEVIATION or around.std() < LEAST_DEVIATION:
        return 0.0
    return 1.0 - float(cv2.matchTemplate(around, template, cv2.TM_CCOEFF_NORMED).max())


def _grey(crop: Image) -> NDArray[np.float32]:
    import cv2

    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    if grey.shape != (COMPARED_SIDE, COMPARED_SIDE):
        grey = cv2.resize(grey, (COMPARED_SIDE, COMPARED_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.float32)


@dataclass(frozen=True)
class FaceMotion:
    """How one person's face moves between the frames that show it.

    Attributes:
        start_s, end_s: ``[p]`` times of the frames of each pair.
        lips: ``[p]`` their movement; NaN where both frames are one held picture.
    """

    start_s: Values
    end_s: Values
    lips: Values

    @property
    def median_lips(self) -> float | None:
        """Median movement of the lips; 0 of one held picture, None of a single frame."""
        if not len(self.lips):
            return None
        known = self.lips[~np.isnan(self.lips)]
        return float(np.median(known)) if len(known) else 0.0

    @property
    def still(self) -> bool:
        """Whether the face does not change, as a photograph does not."""
        median = self.median_lips
        return median is not None and median < STILL

    def lips_with(self, sound: SoundLevels | None) -> float | None:
        """Median movement of the lips during speech; None if unknown."""
        if sound is None:
            return None
        pairs = zip(self.start_s, self.end_s, strict=True)
        voiced = np.array([sound.voiced(a, b) for a, b in pairs], bool)
        if voiced.sum() < _LEAST_PAIRS:
            return None
        if np.isnan(self.lips).all():
            return 0.0
        known = self.lips[voiced & ~np.isnan(self.lips)]
        return float(np.median(known)) if len(known) >= _LEAST_PAIRS else None

    def speaks(self, sound: SoundLevels | None) -> bool | None:
        """Whether the person speaks; None where that can't be known.

        Between lips that move and a picture that is still, nothing is concluded: quiet speech in a
        small picture moves about as much as the noise of its coding.
        """
        lips = self.lips_with(sound)
        if lips is None or STILL <= lips < MOVING:
            return None
        return lips >= MOVING


def main_person(
    weights: Sequence[float], motions: Sequence[FaceMotion], sound: SoundLevels | None
) -> int | None:
    """Index of the main person: the one who speaks, else of most weight; None without any.

    Args:
        weights: of each person: frames times the usual share of the picture.
        motions: of each person.
        sound: of the clip; None where it has none.
    """
    if not weights:
        return None
    # a weight counts whole where lips move, little where they are not seen to
    shares = [np.clip(((m.median_lips or 0.0) / MOVING) ** 2, _LEAST_SHARE, 1.0) for m in motions]
    shared = [w * float(share) for w, share in zip(weights, shares, strict=True)]
    heaviest = int(np.argmax(shared))
    lips = [m.lips_with(sound) or 0.0 for m in motions]
    speaking = int(np.argmax(lips))
    more = lips[speaking] >= max(MOVING, _MORE * lips[heaviest])
    often = len(motions[speaking].lips) >= len(motions[heaviest].lips) / 2
    return speaking if more and often else heaviest
