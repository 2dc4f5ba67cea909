"""Base class of the data modules: classes, split, sampling, and undecodable clips."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

from pytorch_lightning import LightningDataModule

from avser.data.dataset import LengthSampler
from avser.data.splits import Split, SplitParts
from avser.emotions import Labels, ordered
from avser.errors import ConfigError, CorpusError, escape_controls
from avser.models.encoders.base import AudioEncoder
from avser.types import Batch, Clip, Corpus


class PreparedClips(Protocol):
    """Clips after decoding."""

    @property
    def clips(self) -> list[Clip]:
        """Clips that could be decoded."""

    @property
    def failed(self) -> list[tuple[Clip, str]]:
        """Clips that could not, each with the reason."""


def failure_text(clip: Clip, reason: str) -> str:
    """Path of a clip that can't be decoded, and the reason."""
    path = escape_controls(str(clip.path))
    return reason if path in reason else f"{path}: {reason}"


class LabelledDataModule(LightningDataModule, ABC):
    """Labelled clips of a corpus, split into parts, decoded once and served in batches.

    Training, evaluation and the commands use data modules through this interface only.

    Args:
        corpus: lists the clips and their labels.
        split: assigns clips to training, validation and test.
        emotions: classes to keep, after merging; None keeps all that the corpus has.
        merge: emotion to emotion, applied first, for instance ``{calm: neutral}``; None takes the
            corpus's own, ``{}`` merges nothing.
        batch_size: clips of a training batch.
        workers: loading processes.
        seed: of the order of training batches.
        max_missing: share of the clips that may be left out because they can't be decoded.

    Raises:
        ConfigError: ``max_missing`` is not between 0 and 1, or another number is out of range.
    """

    unit_name: ClassVar[str]  # word for a clip in messages
    unlabelled: bool = False  # whether clips without an emotion are kept, for a teacher
    views: int | None = None  # see `ClipDataModule`; None: no features are prepared

    def __init__(
        self,
        corpus: Corpus,
        split: Split,
        *,
        emotions: list[str] | None,
        merge: dict[str, str] | None,
        batch_size: int,
        workers: int,
        seed: int,
        max_missing: float,
    ) -> None:
        super().__init__()
        if not 0 <= max_missing <= 1:
            raise ConfigError(f"Bad data.max_missing {max_missing:g}: legal is 0 to 1.")
        if batch_size < 1:
            raise ConfigError(f"Bad data.batch_size {batch_size}: legal is 1 or more.")
        if workers < 0:
            raise ConfigError(f"Bad data.workers {workers}: legal is 0 or more.")
        self.corpus, self.split = corpus, split
        if merge is None:
            kept = set(emotions or ())
            merge = {old: new for old, new in corpus.merge.items() if old not in kept}
        self.labels = Labels(tuple(emotions) if emotions is not None else None, merge)
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.max_missing = max_missing
        self.progress: Callable[[int, int], None] | None = None
        self._chosen = emotions
        self._rows: list[Clip] | None = None
        self._class_of: dict[str, str | None] = {}  # of each emotion of the corpus
        self._parts: SplitParts | None = None

    # -- what a subclass implements --------------------------------------------------------------

    @property
    @abstractmethod
    def prepared(self) -> PreparedClips:
        """The decoded clips; the first use decodes what is not yet in the cache."""

    @property
    @abstractmethod
    def units(self) -> list[Clip]:
        """Decoded clips, or their chunks, that the split assigns to parts."""

    @property
    @abstractmethod
    def digests(self) -> Mapping[str, str]:
        """`clip_name` to hash of what was decoded; copies of a recording share it."""

    @abstractmethod
    def loader(self, clips: Sequence[Clip]) -> Iterable[Batch]:
        """Batches of the given clips, whole and unchanged; match results by ``clip_id``."""

    @abstractmethod
    def train_dataloader(self) -> Iterable[Batch]:
        """Shuffled training batches; each process of a distributed training has its own."""

    def samples(self, clip: Clip) -> int:
        """Number of a clip's samples; 0 without sound."""
        return 0

    @property
    def marks(self) -> list[str]:
        """Marks of tables beside the split's own."""
        return []

    def enrol_speakers(self, encoder: AudioEncoder) -> None:
        """Compute speaker statistics with an encoder's front end, if the data module uses them."""

    def prepare_features(
        self, encoder: AudioEncoder, *, everything: bool = False, teacher: bool = False
    ) -> int:
        """Compute a frozen encoder's outputs once, if the data module is set to (``views``).

        Args:
            encoder: of the network that is to be trained.
            everything: degraded views of all clips, not only of the training part.
            teacher: the encoder is the teacher's: training batches also hold its outputs, for the
                same views as the student's.

        Returns:
            Number of computed outputs.
        """
        return 0

    def sound_loader(self, clips: Sequence[Clip]) -> Iterable[Batch]:
        """Do as `loader` does, with samples even if features are prepared."""
        return self.loader(clips)

    def views_loader(self, clips: Sequence[Clip]) -> Iterable[Batch]:
        """Batches of training clips as of `loader`, weighted, with each of their views."""
        return self.loader(clips)

    # -- shared ----------------------------------------------------------------------------------

    @property
    def rows(self) -> list[Clip]:
        """The corpus's clips that have a class of the task."""
        if self._rows is None:
            clips = self.corpus.clips()
            word = {emotion: self.labels(emotion) for emotion in {c.emotion for c in clips}}
            kept = [c for c in clips if word[c.emotion] is not None]
            self._class_of = {e: name for e, name in word.items() if e is not None}
            more = [c for c in clips if c.emotion is None] if self.unlabelled else []
            self._rows = [*kept, *more]
            if not any(word):
                raise CorpusError(
                    f"Bad corpus {self.corpus.name}: none of its {len(clips)} {self.unit_name}s "
                    "has an emotion; give a column emotion, or mix it with a labelled corpus."
                )
            if not kept:
                raise CorpusError(
                    f"Bad classes: no {self.unit_name} of {self.corpus.name} has one of "
                    f"{', '.join(self._chosen or [])}; choose among the corpus's emotions."
                )
        return self._rows

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        if self._chosen is not None:
            return ordered(self._chosen)
        if not self._class_of:
            _ = self.rows
        return ordered(name for name in self._class_of.values() if name is not None)

    def label_indices(self, clips: Sequence[Clip]) -> list[int]:
        """Index of each clip's class; -1 of a clip without an emotion, kept for a teacher."""
        place = {name: index for index, name in enumerate(self.classes)}
        return [-1 if c.emotion is None else place[str(self._class_of[c.emotion])] for c in clips]

    @property
    def parts(self) -> SplitParts:
        """The split; copies of one recording are recognised by what was decoded.

        Raises:
            CorpusError: see `prepare_data`.
            SplitError: see `avser.data.splits.Split.split`.
        """
        if self._parts is None:
            self.prepare_data()
            parts = self.split.split(self.units, self.digests)
            self._parts = replace(  # clips without an emotion are in the training part alone
                parts,
                validation=[c for c in parts.validation if c.emotion is not None],
                test=[c for c in parts.test if c.emotion is not None],
            )
        return self._parts

    @property
    def fold_count(self) -> int:
        """Number of folds of the split, over speakers with at least one decoded clip."""
        self.prepare_data()
        return self.split.fold_count(self.units, self.digests)

    @property
    def split_description(self) -> str:
        """The split, and which of its folds this is: ``speaker_kfold, fold 1 of 5``."""
        return self.split.describe(folds=self.fold_count)

    @property
    def missing(self) -> str | None:
        """One sentence about clips that can't be decoded, or None."""
        failed = self.prepared.failed
        if not failed:
            return None
        first = failure_text(*failed[0]).rstrip(".")
        return f"{len(failed)} of {len(self.rows)} {self.unit_name}s left out (first: {first})"

    def prepare_data(self) -> None:
        """Decode, and refuse a corpus of which too many clips can't be decoded.

        Lightning calls this on one process first; the others then find the cache filled.

        Raises:
            CorpusError: more than ``max_missing`` of the clips are left out.
        """
        share = len(self.prepared.failed) / len(self.rows)
        if share > self.max_missing:
            raise CorpusError(
                f"Bad corpus {self.corpus.name}: {self.missing}; at most "
                f"{100 * self.max_missing:g} % may be: repair the files (avser prepare lists "
                f"them), or allow more with --data.max_missing {math.ceil(100 * share) / 100:g}."
            )

    @property
    def notes(self) -> list[str]:
        """Notes of tables beside the split's own."""
        return [*self.corpus.notes, *([self.missing] if self.missing else [])]

    def val_dataloader(self) -> Iterable[Batch]:
        """Validation clips, whole; shared out between processes."""
        rank, world = self.place
        return self.loader(self.parts.validation[rank::world])

    def sampler(self, lengths: Sequence[int]) -> LengthSampler:
        """Sampler of shuffled training batches of similar length, for this process."""
        rank, world = self.place
        trainer = self.trainer
        return LengthSampler(
            lengths,
            batch_size=self.batch_size,
            seed=self.seed,
            rank=rank,
            world=world,
            # read late: a resumed training knows its epoch only after this
            now=(lambda: trainer.current_epoch) if trainer is not None else None,
        )

    @property
    def place(self) -> tuple[int, int]:
        """Rank of this process and number of processes of a distributed training."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def class_counts(self) -> list[int]:
        """Training clips of each class.

        Raises:
            ConfigError: a class has none.
        """
        counts: Counter[str | None] = Counter()
        for emotion, count in Counter(c.emotion for c in self.parts.train).items():
            counts[None if emotion is None else self._class_of[emotion]] += count
        missing = [name for name in self.classes if not counts[name]]
        if missing:
            raise ConfigError(
                f"Bad classes: no training {self.unit_name} is {', '.join(missing)}; remove it "
                "from data.emotions, or choose another split."
            )
        return [counts[name] for name in self.classes]
