"""Speaker-independent splits: no speaker is in two parts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from avser.data.splits.base import (
    FEW,
    PARTS,
    Split,
    SplitParts,
    assign_groups,
    group_speakers,
    hold_out_sentences,
    shuffle_by_sex,
)
from avser.errors import SplitError, unknown
from avser.types import Clip


class SpeakerKFold(Split):
    """Folds of whole speakers of both sexes; validation speakers come from the next fold.

    Args:
        folds: how many.
        fold: which one is the test part.
        validation_speakers: number of validation speakers, of both sexes where known.
        seed: of the assignment.
        train_only: corpora of a mix that are in the training part of every fold; folds and figures
            are of the other corpora alone.
    """

    name = "speaker_kfold"

    def __init__(
        self,
        *,
        folds: int = 5,
        fold: int = 0,
        validation_speakers: int = 2,
        seed: int = 0,
        train_only: list[str] | None = None,
    ) -> None:
        if folds < 2 or not 0 <= fold < folds:
            raise SplitError(f"Bad fold {fold} of {folds}: legal is 0 to folds - 1, folds ≥ 2.")
        self.folds, self.fold = folds, fold
        self.validation_speakers, self.seed = validation_speakers, seed
        self.train_only = tuple(train_only or ())

    def fold_count(self, clips: Sequence[Clip], digests: Mapping[str, str] | None = None) -> int:
        """See `Split.fold_count`."""
        return self.folds

    def describe(self, *, folds: int = 1) -> str:
        """See `Split.describe`."""
        extra = f", {'+'.join(self.train_only)} in training alone" if self.train_only else ""
        which = f"{self.folds} folds" if folds == 1 else f"fold {self.fold + 1} of {folds}"
        return f"{self.name}, {which}{extra}"

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """See `Split.assign`."""
        names = sorted({c.corpus for c in clips})
        for name in self.train_only:
            if name not in names:
                raise SplitError(unknown("corpus", name, names))
        extra = [c for c in clips if c.corpus in self.train_only]
        clips = [c for c in clips if c.corpus not in self.train_only]
        order = shuffle_by_sex(clips, groups, self.seed)
        if len(order) < self.folds:
            raise SplitError(
                f"Bad folds {self.folds}: there are {len(order)} speakers; ask for fewer folds."
            )
        # runs of equal length: each holds its share of both sexes
        bounds = np.linspace(0, len(order), self.folds + 1).round().astype(int)
        runs = [order[a:b] for a, b in pairwise(bounds)]
        later = [u for k in range(1, self.folds) for u in runs[(self.fold + k) % self.folds]]
        parts = assign_groups(
            clips,
            groups,
            test=set(runs[self.fold]),
            candidates=later,
            count=self.validation_speakers,
        )
        return replace(parts, train=parts.train + extra)


class Loso(Split):
    """Leave one speaker out.

    Args:
        fold: which speaker, in sorted order, is the test part, with those who share a recording.
        validation_speakers: number of validation speakers, if at least four are left for training.
        seed: of the choice.
    """

    name = "loso"

    def __init__(self, *, fold: int = 0, validation_speakers: int = 1, seed: int = 0) -> None:
        self.fold, self.validation_speakers, self.seed = fold, validation_speakers, seed

    def fold_count(self, clips: Sequence[Clip], digests: Mapping[str, str] | None = None) -> int:
        """See `Split.fold_count`."""
        return len(set(group_speakers(clips, digests or {}).values()))

    def describe(self, *, folds: int = 1) -> str:
        """See `Split.describe`."""
        return self.name if folds == 1 else f"{self.name}, fold {self.fold + 1} of {folds}"

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """See `Split.assign`."""
        names = sorted(set(groups.values()))
        if not 0 <= self.fold < len(names):
            raise SplitError(f"Bad fold {self.fold}: there are {len(names)} speakers, from 0.")
        test = names[self.fold]
        order = shuffle_by_sex(clips, groups, self.seed)
        return assign_groups(
            clips, groups, test={test}, candidates=order, count=self.validation_speakers
        )


class HeldOut(Split):
    """Test and validation speakers by name.

    Args:
        test: speakers of the test part (``"21"`` or ``"ravdess/21"``); [] for no test part.
        validation: speakers of the validation part; None takes two.
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

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """See `Split.assign`."""
        test = {groups[find_speaker(name, groups)] for name in self.test}
        if self.validation is None:
            order = shuffle_by_sex(clips, groups, self.seed)
            return assign_groups(clips, groups, test=test, candidates=order, count=2)
        chosen = {groups[find_speaker(name, groups)] for name in self.validation}
        if test & chosen:
            raise SplitError(
                f"Bad speakers: {min(test & chosen)}, or one who shares a recording with it, is "
                "named for test and for validation; name each once, and such speakers for one part."
            )
        side = {
            s: "test" if u in test else "validation" if u in chosen else "train"
            for s, u in groups.items()
        }
        rows = {part: [c for c in clips if side[c.speaker] == part] for part in PARTS}
        return SplitParts(rows["train"], rows["validation"], rows["test"])


def find_speaker(name: str, speakers: Iterable[str]) -> str:
    """Return the full speaker name for ``"21"`` or ``"ravdess/21"``.

    Raises:
        SplitError: there is none, or several corpora have one.
    """
    names = sorted(set(speakers))
    matches = [s for s in names if s == name or s.partition("/")[2] == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise SplitError(f"Bad speaker {name!r}: say which of {', '.join(matches)}.")
    raise SplitError(unknown("speaker", name, names))


class LeaveOneCorpusOut(Split):
    """Train on all corpora of a mix but one, test on that one.

    Args:
        fold: which corpus, in sorted order of names, is the test part.
        validation_speakers: number of validation speakers of each training corpus; corpora with
            fewer than four speakers give none.
        seed: of that choice.
    """

    name = "leave_one_corpus_out"

    def __init__(self, *, fold: int = 0, validation_speakers: int = 1, seed: int = 0) -> None:
        self.fold, self.validation_speakers, self.seed = fold, validation_speakers, seed

    def fold_count(self, clips: Sequence[Clip], digests: Mapping[str, str] | None = None) -> int:
        """See `Split.fold_count`: one a corpus."""
        return len({clip.corpus for clip in clips})

    def describe(self, *, folds: int = 1) -> str:
        """See `Split.describe`."""
        return self.name if folds == 1 else f"{self.name}, fold {self.fold + 1} of {folds}"

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """See `Split.assign`."""
        names = sorted({c.corpus for c in clips})
        if len(names) < 2 or not 0 <= self.fold < len(names):
            raise SplitError(
                f"Bad fold {self.fold} of {len(names)} corpora ({', '.join(names)}): legal is 0 to "
                "corpora - 1, of a mix of two or more."
            )
        train: list[Clip] = []
        validation: list[Clip] = []
        for name in names[: self.fold] + names[self.fold + 1 :]:
            own = [c for c in clips if c.corpus == name]
            order = shuffle_by_sex(own, groups, self.seed)
            if len(order) < FEW:
                train += own
                continue
            count = self.validation_speakers
            parts = assign_groups(own, groups, test=set(), candidates=order, count=count)
            train += parts.train
            validation += parts.validation
        if not validation:
            inner = hold_out_sentences(train)
            train, validation = inner.train, inner.validation
        test = [c for c in clips if c.corpus == names[self.fold]]
        note = f"tested on {names[self.fold]}, trained on the other {len(names) - 1}"
        return SplitParts(train, validation, test, notes=(note,))


class CrossCorpus(Split):
    """Train on some corpora, test on others.

    Args:
        train: names of corpora.
        test: names of corpora.
        validation_speakers: number of validation speakers, from the training corpora.
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

    def describe(self, *, folds: int = 1) -> str:
        """See `Split.describe`."""
        return f"{self.name}, {'+'.join(self.train)} to {'+'.join(self.test)}"

    def assign(self, clips: list[Clip], groups: Mapping[str, str]) -> SplitParts:
        """See `Split.assign`."""
        names = sorted({c.corpus for c in clips})
        for name in (*self.train, *self.test):
            if name not in names:
                raise SplitError(unknown("corpus", name, names))
        own = [c for c in clips if c.corpus in self.train]
        order = shuffle_by_sex(own, groups, self.seed)
        parts = assign_groups(
            own, groups, test=set(), candidates=order, count=self.validation_speakers
        )
        return replace(parts, test=[c for c in clips if c.corpus in self.test])
