"""Protocols: which speakers train, which choose the epoch, and which give the figure.

A protocol never puts a speaker, or copies of one recording, on two sides, unless it is one that is
named for doing so and is marked on every table.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from avser.errors import ProtocolError, unknown
from avser.types import Clip

PARTS = ("train", "validation", "test")
_FEW = 4  # with fewer training speakers than this, none is spared for validation


@dataclass(frozen=True)
class Parts:
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


class Protocol(ABC):
    """Splits clips into train, validation and test.

    Attributes:
        name: short name, printed on tables.
        mark: loud mark of protocols whose figures do not hold on unseen speakers; "" otherwise.
        speaker_independent: whether a speaker on two sides is refused.
    """

    name: ClassVar[str]
    mark: ClassVar[str] = ""
    speaker_independent: ClassVar[bool] = True

    @abstractmethod
    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """Split; ``units`` maps each speaker to a name shared by speakers tied by duplicates."""

    def fold_count(self, clips: Sequence[Clip]) -> int:
        """How many folds there are; 1 where the protocol has no folds."""
        return 1

    def describe(self) -> str:
        """One line for tables."""
        return self.name

    def split(self, clips: Iterable[Clip], digests: Mapping[str, str] | None = None) -> Parts:
        """Split clips, and refuse a split that leaks.

        Args:
            clips: rows with an emotion.
            digests: `clip_name` to hash of the decoded samples; copies share it.

        Raises:
            ProtocolError: there is nothing to train on, or a speaker or a recording would be on
                two sides.
        """
        rows = sorted(clips, key=clip_name)
        digests = digests or {}
        if self.speaker_independent:
            lost = [c for c in rows if not c.speaker and c.part is None]
            if lost:
                raise ProtocolError(
                    f"Bad split: the speaker of {len(lost)} clips is unknown, first "
                    f"{lost[0].path}; add a speaker column, or ask for RandomSplit by name."
                )
        parts = self.assign(rows, _units(rows, digests))
        if not parts.train or not parts.validation:
            raise ProtocolError(
                f"Bad split: {len(parts.train)} training and {len(parts.validation)} validation "
                f"clips of {len(rows)}; choose fewer folds or other speakers."
            )
        self._check(parts, digests)
        return parts

    def _check(self, parts: Parts, digests: Mapping[str, str]) -> None:
        if self.mark == Resubstitution.mark:
            return
        sides = {part: clips for part, clips in parts.items()}
        within = any("by sentence" in note for note in parts.notes)
        for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if self.speaker_independent and not (within and (a, b) == ("train", "validation")):
                _refuse(a, b, "speaker", *({c.speaker for c in sides[p] if c.speaker} for p in (a, b)))
            known = ({digests[clip_name(c)] for c in sides[p] if clip_name(c) in digests} for p in (a, b))
            _refuse(a, b, "recording", *known)


def _refuse(a: str, b: str, what: str, left: set[str], right: set[str]) -> None:
    both = sorted(left & right)
    if both:
        raise ProtocolError(
            f"Bad split: {what} {both[0]} is in {a} and in {b} ({len(both)} in all); keep each "
            f"{what} on one side."
        )


def _units(clips: Sequence[Clip], digests: Mapping[str, str]) -> dict[str, str]:
    """Join speakers who share a recording: speaker to the first name of its group."""
    parent: dict[str, str] = {c.speaker: c.speaker for c in clips}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    owner: dict[str, str] = {}
    for clip in clips:
        digest = digests.get(clip_name(clip))
        if digest is None:
            continue
        other = owner.setdefault(digest, clip.speaker)
        a, b = sorted((root(other), root(clip.speaker)))
        parent[b] = a
    return {name: root(name) for name in parent}


def _balanced(clips: Sequence[Clip], units: Mapping[str, str], seed: int) -> list[str]:
    """Units in random order with the sexes taking turns, so that any run of them is balanced."""
    by_sex: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        unit = units[clip.speaker]
        if all(unit not in names for names in by_sex.values()):
            by_sex[clip.sex].append(unit)
    rng = np.random.default_rng(seed)
    queues = [list(rng.permutation(sorted(by_sex[sex]))) for sex in sorted(by_sex)]
    order: list[str] = []
    while any(queues):
        order.extend(str(queue.pop(0)) for queue in queues if queue)
    return order


def _by_units(
    clips: Sequence[Clip],
    units: Mapping[str, str],
    *,
    test: set[str],
    validation: Sequence[str],
) -> Parts:
    """Parts of whole units; validation by sentence where too few speakers are left to train."""
    held = [c for c in clips if units[c.speaker] in test]
    rest = [c for c in clips if units[c.speaker] not in test]
    if len({units[c.speaker] for c in rest}) < _FEW:
        return replace(within_speakers(rest), test=held)
    chosen = set(validation)
    return Parts(
        train=[c for c in rest if units[c.speaker] not in chosen],
        validation=[c for c in rest if units[c.speaker] in chosen],
        test=held,
    )


def within_speakers(clips: Sequence[Clip], *, share: float = 0.2) -> Parts:
    """Take about a fifth of the sentences (of the clips, where unknown) for validation."""
    sentences = sorted({c.sentence or c.clip_id for c in clips}, key=_scatter)
    chosen = set(sentences[: max(1, round(share * len(sentences)))])
    return Parts(
        train=[c for c in clips if (c.sentence or c.clip_id) not in chosen],
        validation=[c for c in clips if (c.sentence or c.clip_id) in chosen],
        test=[],
        notes=("validation by sentence inside the training speakers",),
    )


def _scatter(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class SpeakerKFold(Protocol):
    """Speakers dealt into folds of both sexes; validation speakers come from the next fold.

    Args:
        folds: how many.
        fold: which one is the test part.
        validation_speakers: speakers who choose the epoch, of both sexes where known.
        seed: of the deal.
    """

    name = "speaker_kfold"

    def __init__(
        self, *, folds: int = 5, fold: int = 0, validation_speakers: int = 2, seed: int = 0
    ) -> None:
        if folds < 2 or not 0 <= fold < folds:
            raise ProtocolError(f"Bad fold {fold} of {folds}: legal is 0 to folds - 1, folds ≥ 2.")
        self.folds, self.fold = folds, fold
        self.validation_speakers, self.seed = validation_speakers, seed

    def fold_count(self, clips: Sequence[Clip]) -> int:
        """See `Protocol.fold_count`."""
        return self.folds

    def describe(self) -> str:
        """See `Protocol.describe`."""
        return f"{self.name}, {self.folds} folds"

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Protocol.assign`."""
        order = _balanced(clips, units, self.seed)
        if len(order) < self.folds:
            raise ProtocolError(
                f"Bad folds {self.folds}: there are {len(order)} speakers; ask for fewer folds."
            )
        # deal runs of equal length: a run of alternating sexes is balanced
        bounds = np.linspace(0, len(order), self.folds + 1).round().astype(int)
        runs = [order[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        later = [u for k in range(1, self.folds) for u in runs[(self.fold + k) % self.folds]]
        return _by_units(
            clips,
            units,
            test=set(runs[self.fold]),
            validation=later[: self.validation_speakers],
        )


class Loso(Protocol):
    """Leave one speaker out.

    Args:
        fold: which speaker, in sorted order, is the test part.
        validation_speakers: speakers who choose the epoch, if at least four are left to train.
        seed: of the choice.
    """

    name = "loso"

    def __init__(self, *, fold: int = 0, validation_speakers: int = 1, seed: int = 0) -> None:
        self.fold, self.validation_speakers, self.seed = fold, validation_speakers, seed

    def fold_count(self, clips: Sequence[Clip]) -> int:
        """See `Protocol.fold_count`."""
        return len({c.speaker for c in clips})

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Protocol.assign`."""
        names = sorted(set(units.values()))
        if not 0 <= self.fold < len(names):
            raise ProtocolError(f"Bad fold {self.fold}: there are {len(names)} speakers, from 0.")
        test = names[self.fold]
        order = [u for u in _balanced(clips, units, self.seed) if u != test]
        return _by_units(
            clips, units, test={test}, validation=order[: self.validation_speakers]
        )


class HeldOut(Protocol):
    """Speakers named by hand.

    Args:
        test: speakers of the test part (``"21"`` or ``"ravdess/21"``); may be empty: no figure.
        validation: speakers who choose the epoch; None takes two.
        seed: of that choice.
    """

    name = "held_out"

    def __init__(
        self,
        *,
        test: list[str],
        validation: list[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.test, self.validation, self.seed = test, validation, seed

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Protocol.assign`."""
        test = {units[find_speaker(name, units)] for name in self.test}
        if self.validation is None:
            order = [u for u in _balanced(clips, units, self.seed) if u not in test]
            return _by_units(clips, units, test=test, validation=order[:2])
        chosen = {units[find_speaker(name, units)] for name in self.validation}
        side = {s: "test" if u in test else "validation" if u in chosen else "train" for s, u in units.items()}
        rows = {part: [c for c in clips if side[c.speaker] == part] for part in PARTS}
        return Parts(**rows)


def find_speaker(name: str, speakers: Iterable[str]) -> str:
    """Return the full speaker name for ``"21"`` or ``"ravdess/21"``.

    Raises:
        ProtocolError: there is none, or several corpora have one.
    """
    names = sorted(set(speakers))
    found = [s for s in names if s == name or s.partition("/")[2] == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ProtocolError(f"Bad speaker {name!r}: say which of {', '.join(found)}.")
    raise ProtocolError(unknown("speaker", name, names))


class CrossCorpus(Protocol):
    """Train on some corpora, test on others.

    Args:
        train: names of corpora.
        test: names of corpora.
        validation_speakers: training-corpus speakers who choose the epoch.
        seed: of that choice.
    """

    name = "cross_corpus"

    def __init__(
        self,
        *,
        train: list[str],
        test: list[str],
        validation_speakers: int = 2,
        seed: int = 0,
    ) -> None:
        self.train, self.test = train, test
        self.validation_speakers, self.seed = validation_speakers, seed

    def describe(self) -> str:
        """See `Protocol.describe`."""
        return f"{self.name}, {'+'.join(self.train)} to {'+'.join(self.test)}"

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Protocol.assign`."""
        names = sorted({c.corpus for c in clips})
        for name in (*self.train, *self.test):
            if name not in names:
                raise ProtocolError(unknown("corpus", name, names))
        own = [c for c in clips if c.corpus in self.train]
        order = _balanced(own, units, self.seed)
        parts = _by_units(own, units, test=set(), validation=order[: self.validation_speakers])
        return replace(parts, test=[c for c in clips if c.corpus in self.test])


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
        return Parts(**rows, notes=tuple(notes))


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
        return Parts(**rows)


class Resubstitution(Protocol):
    """Every clip in every part: for comparison with figures on training data only."""

    name = "resubstitution"
    mark = "ON TRAINING DATA"
    speaker_independent = False

    def assign(self, clips: list[Clip], units: Mapping[str, str]) -> Parts:
        """See `Protocol.assign`."""
        return Parts(train=clips, validation=clips, test=clips)
