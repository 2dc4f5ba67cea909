"""The owner's parts, and the protocols that must be asked for by name and are marked."""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from avser.data.splits.base import PARTS, Parts, Split, clip_name, within_speakers
from avser.errors import SplitError
from avser.types import Clip


class Given(Split):
    """The corpus's, or the table's, own parts; validation is taken from train if it has none.

    Where no speaker is known, clips of which a later part has a copy are left out, as Kaggle's
    FER2013 has some hundred; the notes say how many.

    Args:
        validation_share: share of the training clips, drawn class by class, that chooses the epoch
            in the place of the owner's validation part; where there is no owner's test part that
            one is then the test part, on which nothing was chosen. For corpora whose speakers are
            unknown; copies of a recording stay together.
        seed: of the draw.
    """

    name = "given"
    speaker_independent = False  # the owner's parts are taken as they are, and overlap is told

    def __init__(self, *, validation_share: float = 0.0, seed: int = 0) -> None:
        if not 0 <= validation_share < 1:
            raise SplitError(
                f"Bad validation_share {validation_share}: legal is 0 (the owner's part) up to, "
                "not including, 1."
            )
        self.validation_share, self.seed = validation_share, seed
        self._digests: Mapping[str, str] = {}

    def describe(self) -> str:
        """See `Split.describe`."""
        share = self.validation_share
        return f"{self.name}, epoch chosen on {share:.0%} of train" if share else self.name

    def split(self, clips: Iterable[Clip], digests: Mapping[str, str] | None = None) -> Parts:
        """See `Split.split`."""
        self._digests = digests or {}
        return super().split(clips, digests)

    def _drawn(self, clips: list[Clip]) -> set[str]:
        """Names of the clips that choose the epoch: of every class its share."""
        groups: dict[str, list[Clip]] = {}
        for clip in clips:
            groups.setdefault(self._digests.get(clip_name(clip), clip_name(clip)), []).append(clip)
        by_class: dict[str, list[str]] = {}
        for digest in sorted(groups):
            by_class.setdefault(str(groups[digest][0].emotion), []).append(digest)
        rng = np.random.default_rng(self.seed)
        chosen: set[str] = set()
        for emotion in sorted(by_class):
            order = rng.permutation(by_class[emotion])
            count = round(self.validation_share * len(order))
            chosen |= {clip_name(c) for digest in order[:count] for c in groups[str(digest)]}
        return chosen

    def _without_copies(self, rows: dict[str, list[Clip]]) -> list[str]:
        """Leave out of each part what is in a later one too; say so."""
        notes: list[str] = []
        later: set[str] = set()
        for part in reversed(PARTS):
            digests = {clip_name(c): self._digests.get(clip_name(c), "") for c in rows[part]}
            kept = [c for c in rows[part] if digests[clip_name(c)] not in later]
            if len(kept) < len(rows[part]):
                count = len(rows[part]) - len(kept)
                notes.append(f"{count} {part} clips left out: copies are in a later part")
            later |= set(digests.values()) - {""}
            rows[part] = kept
        return notes

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Split.assign`."""
        lost = [c for c in clips if c.part not in PARTS]
        if lost:
            raise SplitError(
                f"Bad part {lost[0].part!r} of {lost[0].path}: legal is {', '.join(PARTS)}; fill "
                "the part column, or choose another split."
            )
        rows = {part: [c for c in clips if c.part == part] for part in PARTS}
        notes = [] if any(c.speaker for c in clips) else self._without_copies(rows)
        if self.validation_share:
            if any(c.speaker for c in clips):
                raise SplitError(
                    "Bad validation_share: the speakers are known; leave it out, or use a split "
                    "of whole speakers."
                )
            chosen = self._drawn(rows["train"])
            rows["test"] = rows["test"] or rows["validation"]
            rows["validation"] = [c for c in rows["train"] if clip_name(c) in chosen]
            rows["train"] = [c for c in rows["train"] if clip_name(c) not in chosen]
        elif not rows["validation"]:
            inner = within_speakers(rows["train"])
            rows.update(train=inner.train, validation=inner.validation)
            notes += inner.notes
        seen = {c.speaker for c in rows["train"] if c.speaker}
        shared = seen & {c.speaker for c in rows["test"]}
        if shared:
            notes.append(f"SEEN SPEAKERS: {len(shared)} test speakers are in train")
        if not any(c.speaker for c in clips):
            notes.append("speakers unknown: the unit is the clip")
        return Parts(rows["train"], rows["validation"], rows["test"], notes=tuple(notes))


class RandomSplit(Split):
    """Clips dealt at random, speakers on both sides: for comparison with such figures only.

    Args:
        validation, test: shares of the clips.
        seed: of the deal.
        unit: "chunk" deals each 0.512 s of a clip by itself, so that one recording is on several
            sides: training, testing and figures are then of chunks.
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

    def describe(self) -> str:
        """See `Split.describe`."""
        return f"{self.name}, by {self.unit}" if self.unit == "chunk" else self.name

    def split(self, clips: Iterable[Clip], digests: Mapping[str, str] | None = None) -> Parts:
        """See `Split.split`; copies of a recording are dealt together."""
        self._digests = digests or {}
        return super().split(clips, digests)

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
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
        return Parts(rows["train"], rows["validation"], rows["test"], notes=notes)


class Resubstitution(Split):
    """Every clip in every part: for comparison with figures on training data only."""

    name = "resubstitution"
    mark = "ON TRAINING DATA"
    speaker_independent = False
    leakproof = False

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Split.assign`."""
        return Parts(train=clips, validation=clips, test=clips)
