"""The corpus's own parts, and the default split: own parts, else folds of speakers."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from avser.data.splits.base import (
    PARTS,
    Split,
    SplitParts,
    clip_name,
    group_speakers,
    hold_out_sentences,
)
from avser.data.splits.speakers import SpeakerKFold
from avser.errors import SplitError
from avser.types import Clip


class Given(Split):
    """The corpus's own parts; validation is taken from train if there is none.

    If no speaker is known, clips with a copy in a later part are left out, such as some hundred of
    Kaggle's FER2013; the notes give their number.

    Args:
        validation_share: share of the training clips, drawn class by class, that becomes the
            validation part. The owner's validation part becomes the test part, if there is no
            other. For corpora with unknown speakers; copies of a recording stay together.
        seed: of the draw.
    """

    name = "given"
    speaker_independent = False  # the owner's parts stay as they are, with a note on overlap

    def __init__(self, *, validation_share: float = 0.0, seed: int = 0) -> None:
        if not 0 <= validation_share < 1:
            raise SplitError(
                f"Bad validation_share {validation_share}: legal is 0 (the owner's part) up to, "
                "not including, 1."
            )
        self.validation_share, self.seed = validation_share, seed
        self._digests: Mapping[str, str] = {}

    def describe(self, *, folds: int = 1) -> str:
        """See `Split.describe`."""
        share = self.validation_share
        return f"{self.name}, epoch chosen on {share:.0%} of train" if share else self.name

    def split(self, clips: Iterable[Clip], digests: Mapping[str, str] | None = None) -> SplitParts:
        """See `Split.split`."""
        self._digests = digests or {}
        return super().split(clips, digests)

    def _drawn(self, clips: list[Clip]) -> set[str]:
        """Names of the clips drawn for validation, the same share of every class."""
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
        """Remove clips with a copy in a later part; return notes about their number."""
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

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
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
            inner = hold_out_sentences(rows["train"])
            rows.update(train=inner.train, validation=inner.validation)
            notes += inner.notes
        seen = {c.speaker for c in rows["train"] if c.speaker}
        shared = seen & {c.speaker for c in rows["test"]}
        if shared:
            notes.append(f"SEEN SPEAKERS: {len(shared)} test speakers are in train")
        if not any(c.speaker for c in clips):
            notes.append("speakers unknown: the unit is the clip")
        return SplitParts(rows["train"], rows["validation"], rows["test"], notes=tuple(notes))


class AutoSplit(Split):
    """The corpus's own parts if its clips have any, else folds of whole speakers.

    Args:
        folds: of speakers; with fewer speakers there are as many folds as speakers.
        fold: which one is the test part.
        seed: of the assignment.
    """

    name = "auto"
    speaker_independent = False  # the chosen split checks that by itself

    def __init__(self, *, folds: int = 5, fold: int = 0, seed: int = 0) -> None:
        self.folds, self.fold, self.seed = folds, fold, seed
        self._chosen: Split = SpeakerKFold(folds=folds, fold=0, seed=seed)

    def choose(self, clips: Sequence[Clip], digests: Mapping[str, str] | None = None) -> Split:
        """Return the split for these clips.

        Raises:
            SplitError: no clip has a part and none has a speaker, or there is but one speaker.
        """
        if any(c.part for c in clips):
            self._chosen = Given()
            return self._chosen
        count = len(set(group_speakers([c for c in clips if c.speaker], digests or {}).values()))
        if count < 2:
            who = f"only one speaker, {clips[0].speaker}" if count else "no clip has a speaker"
            raise SplitError(
                f"Bad split: {who}; results on unseen speakers need at least two: give a "
                "column speaker (manifest) or a folder per speaker (--data.corpus.speaker), or "
                "split at random with --data.split random (tables are then marked RANDOM SPLIT)."
            )
        folds = min(self.folds, count)
        self._chosen = SpeakerKFold(folds=folds, fold=self.fold, seed=self.seed)
        return self._chosen

    def fold_count(self, clips: Sequence[Clip], digests: Mapping[str, str] | None = None) -> int:
        """See `Split.fold_count`."""
        return self.choose(clips, digests).fold_count(clips, digests)

    def describe(self, *, folds: int = 1) -> str:
        """See `Split.describe`; describes the split that was chosen last."""
        return self._chosen.describe(folds=folds)

    def split(self, clips: Iterable[Clip], digests: Mapping[str, str] | None = None) -> SplitParts:
        """See `Split.split`."""
        rows = list(clips)
        return self.choose(rows, digests).split(rows, digests)

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """See `Split.assign`."""
        return self.choose(clips).assign(clips, groups)
