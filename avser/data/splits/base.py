"""Base class of splits, and the assignment of whole speakers to parts.

No split puts a speaker, or copies of a recording, into two parts, except the speaker-dependent
ones, which are marked on every table.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from typing import ClassVar, Literal

import numpy as np

from avser.errors import SplitError
from avser.types import SAMPLE_RATE, STEP_SAMPLES, Clip, steps_of

PARTS = ("train", "validation", "test")
FEW = 4  # with fewer training speakers, validation takes sentences instead of speakers


@dataclass(frozen=True)
class SplitParts:
    """Three lists of clips; ``notes`` are printed on every table made from them."""

    train: list[Clip]
    validation: list[Clip]
    test: list[Clip]
    notes: tuple[str, ...] = ()

    def items(self) -> Iterator[tuple[str, list[Clip]]]:
        """Yield name and clips of each part."""
        yield from ((part, getattr(self, part)) for part in PARTS)

    @property
    def hash(self) -> str:
        """Eight hex digits that are equal exactly when the parts hold the same clips."""
        names = {part: sorted(clip_name(c) for c in clips) for part, clips in self.items()}
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]


def clip_name(clip: Clip) -> str:
    """Name of a clip that is unique over corpora: ``ravdess/03-01-06-01-02-01-12``."""
    return f"{clip.corpus}/{clip.clip_id}"


def chunks(clip: Clip, samples: int) -> list[Clip]:
    """Cut a clip of that many samples into clips of one step of 0.512 s, ``<clip_id>#0`` and on."""
    start = clip.start_s or 0.0
    edges = [min(i * STEP_SAMPLES, samples) / SAMPLE_RATE for i in range(steps_of(samples) + 1)]
    return [
        replace(clip, clip_id=f"{clip.clip_id}#{i}", start_s=start + a, end_s=start + b)
        for i, (a, b) in enumerate(pairwise(edges))
    ]


class Split(ABC):
    """Splits clips into train, validation and test.

    Attributes:
        name: short name, printed on tables.
        mark: warning on tables whose figures do not hold for unseen speakers; "" otherwise.
        speaker_independent: whether a speaker in two parts is refused.
        leakproof: whether a recording in two parts is refused.
        unit: what is assigned to parts: whole clips, or chunks of 0.512 s.
    """

    name: ClassVar[str]
    mark: ClassVar[str] = ""
    speaker_independent: ClassVar[bool] = True
    leakproof: ClassVar[bool] = True
    unit: Literal["clip", "chunk"] = "clip"

    @abstractmethod
    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """Assign clips to parts; ``groups`` is the result of `group_speakers`."""

    def fold_count(self, clips: Sequence[Clip], digests: Mapping[str, str] | None = None) -> int:
        """Number of folds; 1 for a split without folds. Arguments as of `split`."""
        return 1

    def describe(self, *, folds: int = 1) -> str:
        """One line for tables.

        Args:
            folds: number of folds, if the table is about this fold alone; 1 describes the split
                as a whole.
        """
        return self.name

    def split(self, clips: Iterable[Clip], digests: Mapping[str, str] | None = None) -> SplitParts:
        """Split clips, and refuse a split that leaks.

        Args:
            clips: rows with an emotion.
            digests: `clip_name` to hash of the decoded samples; copies share it.

        Raises:
            SplitError: a part is empty, or a speaker or a recording would be in two parts.
        """
        rows = sorted(clips, key=clip_name)
        digests = digests or {}
        if self.speaker_independent:
            lost = [c for c in rows if not c.speaker]
            if lost:
                raise SplitError(
                    f"Bad split: the speaker of {len(lost)} clips is unknown, first "
                    f"{lost[0].path}; add a speaker column, or split at random with --data.split "
                    "random."
                )
        parts = self.assign(rows, group_speakers(rows, digests))
        if not parts.train or not parts.validation:
            raise SplitError(
                f"Bad split: {len(parts.train)} training and {len(parts.validation)} validation "
                f"clips of {len(rows)}; choose fewer folds or other speakers."
            )
        if not self.leakproof:
            return parts
        sides = {part: getattr(parts, part) for part in PARTS}
        speakers = {part: {c.speaker for c in clips} - {""} for part, clips in sides.items()}
        recordings = {
            part: {digests[clip_name(c)] for c in clips if clip_name(c) in digests}
            for part, clips in sides.items()
        }
        within = any("by sentence" in note for note in parts.notes)
        for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
            apart = self.speaker_independent and not (within and (a, b) == ("train", "validation"))
            for what, of in (("speaker", speakers if apart else {}), ("recording", recordings)):
                both = sorted(of.get(a, set()) & of.get(b, set()))
                if both:
                    raise SplitError(
                        f"Bad split: {what} {both[0]} is in {a} and in {b} ({len(both)} in all); "
                        f"keep each {what} on one side."
                    )
        return parts


def group_speakers(clips: Sequence[Clip], digests: Mapping[str, str]) -> dict[str, str]:
    """Map each speaker to a group, named by its first speaker; those who share a recording join."""
    groups = {c.speaker: c.speaker for c in clips}
    owner: dict[str, str] = {}
    for clip in clips:
        digest = digests.get(clip_name(clip))
        if digest is None:
            continue
        other = owner.setdefault(digest, clip.speaker)
        first, second = sorted((groups[other], groups[clip.speaker]))
        if first != second:
            groups = {name: first if g == second else g for name, g in groups.items()}
    return groups


def shuffle_by_sex(clips: Sequence[Clip], groups: Mapping[str, str], seed: int) -> list[str]:
    """Speaker groups in random order with each sex spread evenly, so that any slice is balanced."""
    of_sex: dict[str, list[str]] = defaultdict(list)
    sexes = {groups[c.speaker]: c.sex for c in reversed(clips)}  # of a group, its first clip's
    for group, sex in sexes.items():
        of_sex[sex].append(group)
    rng = np.random.default_rng(seed)
    places: list[tuple[float, str, str]] = []
    for sex in sorted(of_sex):
        names = rng.permutation(sorted(of_sex[sex]))
        places += [((i + 0.5) / len(names), sex, str(name)) for i, name in enumerate(names)]
    return [name for _, _, name in sorted(places)]


def assign_groups(
    clips: Sequence[Clip],
    groups: Mapping[str, str],
    *,
    test: set[str],
    candidates: Sequence[str],
    count: int,
) -> SplitParts:
    """Assign whole speaker groups to parts.

    Validation gets the first ``count`` candidates that are not in test, alternating the sexes. If
    too few speakers are left for training, it gets sentences of them instead.
    """
    held = [c for c in clips if groups[c.speaker] in test]
    rest = [c for c in clips if groups[c.speaker] not in test]
    if len({groups[c.speaker] for c in rest}) < FEW:
        return replace(hold_out_sentences(rest), test=held)
    sexes = {groups[c.speaker]: c.sex for c in reversed(clips)}  # of a group, its first clip's
    queues: dict[str, list[str]] = defaultdict(list)
    for group in candidates:
        if group not in test:
            queues[sexes[group]].append(group)
    in_turn = [u for turn in zip_longest(*queues.values()) for u in turn if u is not None]
    chosen = set(in_turn[:count])
    return SplitParts(
        train=[c for c in rest if groups[c.speaker] not in chosen],
        validation=[c for c in rest if groups[c.speaker] in chosen],
        test=held,
    )


def hold_out_sentences(clips: Sequence[Clip], *, share: float = 0.2) -> SplitParts:
    """Take a fifth of the sentences for validation, or of the clips if there is one sentence."""
    known = {c.sentence for c in clips if c.sentence}
    names = [(c.sentence if len(known) > 1 else "") or c.clip_id for c in clips]
    sentences = sorted(set(names), key=_hash)
    chosen = set(sentences[: max(1, round(share * len(sentences)))])
    return SplitParts(
        train=[c for c, name in zip(clips, names, strict=True) if name not in chosen],
        validation=[c for c, name in zip(clips, names, strict=True) if name in chosen],
        test=[],
        notes=("validation by sentence inside the training speakers",),
    )


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
