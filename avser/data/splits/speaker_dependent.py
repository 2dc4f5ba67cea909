"""Splits with speakers or recordings in several parts: marked on every table."""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from avser.data.splits.base import PARTS, Split, SplitParts, clip_name
from avser.errors import SplitError
from avser.types import Clip


class RandomSplit(Split):
    """Clips assigned at random, speakers in all parts; for comparison with published figures only.

    Args:
        validation, test: shares of the clips.
        seed: of the assignment.
        unit: "chunk" assigns each 0.512 s of a clip independently, so that a recording is in
            several parts; training, testing and figures are then by chunk.
    """

    name = "random"
    mark = "RANDOM SPLIT"
    speaker_independent = False

    def __init__(
        self,
        *,
        validation: float = 0.05,
        test: float = 0.05,
        seed: int = 0,
        unit: Literal["clip", "chunk"] = "clip",
    ) -> None:
        if min(validation, test) < 0 or validation + test >= 1:
            raise SplitError(f"Bad shares {validation} and {test}: they must sum to under 1.")
        self.validation, self.test, self.seed, self.unit = validation, test, seed, unit
        self._digests: Mapping[str, str] = {}

    def describe(self, *, folds: int = 1) -> str:
        """See `Split.describe`."""
        return f"{self.name}, by {self.unit}" if self.unit == "chunk" else self.name

    def split(self, clips: Iterable[Clip], digests: Mapping[str, str] | None = None) -> SplitParts:
        """See `Split.split`; copies of a recording stay together."""
        self._digests = digests or {}
        return super().split(clips, digests)

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """See `Split.assign`."""
        group = {clip_name(c): self._digests.get(clip_name(c), clip_name(c)) for c in clips}
        order = list(np.random.default_rng(self.seed).permutation(sorted(set(group.values()))))
        first = round(self.test * len(order))
        second = first + round(self.validation * len(order))
        side = dict.fromkeys(order[:first], "test") | dict.fromkeys(
            order[first:second], "validation"
        )
        rows = {
            part: [c for c in clips if side.get(group[clip_name(c)], "train") == part]
            for part in PARTS
        }
        notes = ("chunks of one recording are in several parts",) if self.unit == "chunk" else ()
        return SplitParts(rows["train"], rows["validation"], rows["test"], notes=notes)


class Resubstitution(Split):
    """Every clip in every part; for comparison with figures on training data only."""

    name = "resubstitution"
    mark = "ON TRAINING DATA"
    speaker_independent = False
    leakproof = False

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """See `Split.assign`."""
        return SplitParts(train=clips, validation=clips, test=clips)
