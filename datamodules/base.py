"""What data modules of clips and of pictures share: classes, the split, batches of training."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

from pytorch_lightning import LightningDataModule

from avser.data.dataset import LengthSampler
from avser.data.splits import Parts, Split
from avser.emotions import Labels, ordered
from avser.errors import ConfigError, CorpusError
from avser.types import Clip, Corpus, ImageCorpus


class LabelledDataModule(LightningDataModule):
    """Rows of a corpus that have a class, parted by a split and prepared once.

    Args:
        corpus: where the rows are and what they are labelled.
        split: who trains, validates and tests.
        emotions: classes to keep, after merging; None keeps all that the corpus has.
        merge: emotion to emotion, applied first, for instance ``{calm: neutral}``.
        batch_size: rows of a training batch.
        workers: loading processes.
        seed: of the order of training batches.
    """

    what: ClassVar[str]  # a row's name in messages

    def __init__(
        self,
        corpus: Corpus | ImageCorpus,
        split: Split,
        *,
        emotions: list[str] | None,
        merge: dict[str, str] | None,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.corpus, self.split = corpus, split
        self.labels = Labels(tuple(emotions) if emotions is not None else None, merge or {})
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.progress: Callable[[int, int], None] | None = None
        self._chosen = emotions
        self._rows: list[Clip] | None = None
        self._parts: Parts | None = None

    @property
    def rows(self) -> list[Clip]:
        """The corpus's rows that have a class of the task."""
        if self._rows is None:
            clips = self.corpus.clips()
            word = {emotion: self.labels(emotion) for emotion in {c.emotion for c in clips}}
            self._rows = [c for c in clips if word[c.emotion] is not None]
            if not self._rows:
                raise CorpusError(
                    f"Bad classes: no {self.what} of {self.corpus.name} has one of "
                    f"{', '.join(self._chosen or [])}; choose among the corpus's emotions."
                )
        return self._rows

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        if self._chosen is not None:
            return ordered(self._chosen)
        words = {self.labels(emotion) for emotion in {c.emotion for c in self.rows}}
        return ordered(word for word in words if word is not None)

    @property
    @abstractmethod
    def digests(self) -> dict[str, str]:
        """`clip_name` to hash of what was decoded; copies share it."""

    @property
    @abstractmethod
    def dealt(self) -> Sequence[Clip]:
        """Clips of all parts, prepared."""

    @property
    def parts(self) -> Parts:
        """The split; copies of one recording are told apart by what was decoded."""
        if self._parts is None:
            self._parts = self.split.split(self.dealt, self.digests)
        return self._parts

    def prepare_data(self) -> None:
        """Decode on one process; the others then find the cache filled."""
        _ = self.dealt

    def sampler(self, lengths: Sequence[int]) -> LengthSampler:
        """Shuffled training batches of like length; each process of several has its own."""
        rank, world = self.place
        trainer = self.trainer
        return LengthSampler(
            lengths,
            batch_size=self.batch_size,
            seed=self.seed,
            rank=rank,
            world=world,
            # asked late: a training that goes on learns its epoch after this
            now=(lambda: trainer.current_epoch) if trainer is not None else None,
        )

    @property
    def place(self) -> tuple[int, int]:
        """Number of this process and how many there are, in a distributed training."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def class_counts(self) -> list[int]:
        """Training rows of each class."""
        counts: Counter[str | None] = Counter()
        for emotion, count in Counter(c.emotion for c in self.parts.train).items():
            counts[self.labels(emotion)] += count
        missing = [name for name in self.classes if not counts[name]]
        if missing:
            raise ConfigError(
                f"Bad classes: no training {self.what} is {', '.join(missing)}; remove it from "
                "data.emotions, or choose another split."
            )
        return [counts[name] for name in self.classes]
