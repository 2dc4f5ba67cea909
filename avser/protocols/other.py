"""The owner's parts, and the protocols that must be asked for by name and are marked."""

from collections.abc import Iterable, Mapping

import numpy as np

from avser.errors import ProtocolError
from avser.protocols.base import PARTS, Parts, Protocol, clip_name, within_speakers
from avser.types import Clip


class Given(Protocol):
    """The corpus's, or the table's, own parts; validation is taken from train if it has none."""

    name = "given"
    speaker_independent = False  # the owner's parts are taken as they are, and overlap is told

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Protocol.assign`."""
        lost = [c for c in clips if c.part not in PARTS]
        if lost:
            raise ProtocolError(
                f"Bad part {lost[0].part!r} of {lost[0].path}: legal is {', '.join(PARTS)}; fill "
                "the part column, or choose another protocol."
            )
        rows = {part: [c for c in clips if c.part == part] for part in PARTS}
        notes: list[str] = []
        if not rows["validation"]:
            inner = within_speakers(rows["train"])
            rows.update(train=inner.train, validation=inner.validation)
            notes += inner.notes
        seen = {c.speaker for c in rows["train"] if c.speaker}
        shared = seen & {c.speaker for c in rows["test"]}
        if shared:
            notes.append(f"SEEN SPEAKERS: {len(shared)} test speakers are in train")
        return Parts(rows["train"], rows["validation"], rows["test"], notes=tuple(notes))


class RandomSplit(Protocol):
    """Clips dealt at random, speakers on both sides: for comparison with such figures only.

    Args:
        validation, test: shares of the clips.
        seed: of the deal.
    """

    name = "random"
    mark = "RANDOM SPLIT"
    speaker_independent = False

    def __init__(self, *, validation: float = 0.05, test: float = 0.05, seed: int = 0) -> None:
        if min(validation, test) < 0 or validation + test >= 1:
            raise ProtocolError(f"Bad shares {validation} and {test}: they must sum to under 1.")
        self.validation, self.test, self.seed = validation, test, seed
        self._digests: Mapping[str, str] = {}

    def split(self, clips: Iterable[Clip], digests: Mapping[str, str] | None = None) -> Parts:
        """See `Protocol.split`; copies of a recording are dealt together."""
        self._digests = digests or {}
        return super().split(clips, digests)

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Protocol.assign`."""
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
        return Parts(rows["train"], rows["validation"], rows["test"])


class Resubstitution(Protocol):
    """Every clip in every part: for comparison with figures on training data only."""

    name = "resubstitution"
    mark = "ON TRAINING DATA"
    speaker_independent = False
    leakproof = False

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Protocol.assign`."""
        return Parts(train=clips, validation=clips, test=clips)
