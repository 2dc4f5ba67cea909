"""Lightning data module of recorded clips, for every corpus and every split."""

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Literal

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from avser.data.audio_cache import AudioCache, Prepared, prepare
from avser.data.dataset import ClipDataset, Item, collate, equal_corpora
from avser.data.face_cache import FaceRows, prepare_faces
from avser.data.feature_store import ClipFeatures, ClipSound, prepare_features
from avser.data.splits import Split, chunks, clip_name
from avser.errors import ConfigError
from avser.evaluation.summary import ENROLLED, PAIRED
from avser.media.degradations import Degrade, Samples
from avser.media.visual_features import FeatureRows, read_features
from avser.models.encoders.base import AudioEncoder
from avser.training.data_module import LabelledDataModule
from avser.types import SAMPLE_RATE, STEP_SAMPLES, Clip, Corpus, ImageCorpus

from .corpora.paired import Paired
from .pairing import PairedRows, pair


def _check_crop(crop_s: float | None) -> None:
    if crop_s is not None and not crop_s * SAMPLE_RATE >= 1:
        raise ConfigError(
            f"Bad data.crop_s {crop_s:g}: legal is above 0 s, or null for whole clips."
        )


class ClipDataModule(LabelledDataModule):
    """Clips of a corpus, decoded once, assigned to parts by a split, and served in batches.

    Args:
        corpus: lists the clips and their labels.
        split: assigns clips to training, validation and test.
        emotions: classes to keep, after merging; None keeps all that the corpus has.
        merge: emotion to emotion, applied first, for instance ``{calm: neutral}``.
        batch_size: clips of a training batch.
        trim: cut quiet edges of training clips, which a trimming encoder would mask.
        crop_s: longest random part of a training clip, in seconds; None takes whole clips.
        workers: loading processes; reading a memory map needs none.
        seed: of the order of training batches.
        video: input besides the sound: none, the clips' precomputed ``features``, or the main
            person's ``faces`` in their videos.
        frames: with faces: number of crops of each clip, drawn at random by the seed; None uses
            all.
        enrol: "speaker" normalises both streams by each speaker's own unlabelled clips, also for
            test speakers: every table is then marked ENROLLED.
        views: compute the outputs of a frozen audio encoder once, for each clip and this many
            degraded views of each training clip; 0 is the clips alone, None computes nothing.
        degrade: computes the views; None is `Degrade` with its defaults.
        unlabelled: keep clips without an emotion, in the training part alone, to be trained on a
            teacher's probabilities.
        equal_corpora: repeat the training clips of smaller corpora of a mix, so that all corpora
            have equal weight.
        max_missing: share of the clips that may be left out because they can't be decoded.
    """

    unit_name = "clip"

    def __init__(
        self,
        corpus: Corpus,
        split: Split,
        *,
        emotions: list[str] | None = None,
        merge: dict[str, str] | None = None,
        batch_size: int = 32,
        trim: bool = True,
        crop_s: float | None = 4.0,
        workers: int = 0,
        seed: int = 0,
        video: Literal["none", "features", "faces"] = "none",
        frames: int | None = None,
        enrol: Literal["none", "speaker"] = "none",
        views: int | None = None,
        degrade: Degrade | None = None,
        unlabelled: bool = False,
        equal_corpora: bool = False,
        max_missing: float = 0.05,
    ) -> None:
        if isinstance(corpus, ImageCorpus):
            raise ConfigError(
                f"Bad data module of {corpus.name}: its clips are pictures; give --data "
                "ImageDataModule, or set data.class_path to avser.datamodules.images."
                "ImageDataModule and write the settings below data.init_args."
            )
        super().__init__(
            corpus,
            split,
            emotions=emotions,
            merge=merge,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            max_missing=max_missing,
        )
        _check_crop(crop_s)
        self.trim, self.crop_s = trim, crop_s
        if frames is not None and (frames < 1 or video != "faces"):
            raise ConfigError(
                f"Bad data.frames {frames} with data.video {video!r}: legal is 1 or more, with "
                "data.video faces."
            )
        if views is not None and (views < 0 or split.unit == "chunk"):
            raise ConfigError(
                f"Bad data.views {views}: legal is 0 or more, or null, of clips and not of chunks."
            )
        self.video, self.frames, self.enrol = video, frames, enrol
        self.views, self.degrade = views, degrade
        self.equal_corpora, self.unlabelled = equal_corpora, unlabelled
        self._audio = None if views is None else ClipFeatures()
        self._teacher = None if views is None else ClipFeatures()
        self._pictures: FeatureRows | FaceRows | PairedRows | None = None
        self._references: dict[str, Tensor] = {}
        self._prepared: Prepared | None = None
        self._index: dict[str, tuple[int, int, int]] = {}  # place, first and last sample
        self._digests: dict[str, str] = {}
        self._units: list[Clip] = []

    @property
    def prepared(self) -> Prepared:
        """The decoded clips; the first use decodes what is not yet in the cache."""
        if self._prepared is None:
            self._prepared = prepare(self.rows, progress=self.progress)
            rows = zip(
                self._prepared.clips,
                self._prepared.waves.lengths,
                self._prepared.waves.digests,
                strict=True,
            )
            for place, (clip, samples, digest) in enumerate(rows):
                self._index[clip_name(clip)] = place, 0, samples
                self._digests[clip_name(clip)] = digest
                self._units += [clip] if self.split.unit == "clip" else self._chunks(clip)
            if self.video == "features":
                self._pictures = self._features(self._prepared.clips)
            elif isinstance(self.corpus, Paired):
                self._pictures = pair(
                    self._prepared.clips,
                    self.corpus.pictures,
                    self.labels,
                    progress=self.progress,
                )
            elif self.video == "faces":
                faces = prepare_faces(self._prepared.clips, progress=self.progress)
                if self.frames is not None:
                    faces = faces.sampled(self.frames, seed=self.seed)
                self._pictures = faces
        return self._prepared

    def _chunks(self, clip: Clip) -> list[Clip]:
        """Cut an indexed clip into chunks, and index them."""
        place, _, samples = self._index[clip_name(clip)]
        units = chunks(clip, samples)
        for number, chunk in enumerate(units):
            first = number * STEP_SAMPLES
            self._index[clip_name(chunk)] = place, first, min(samples, first + STEP_SAMPLES)
            name = f"{self._digests[clip_name(clip)]} {number}".encode()
            self._digests[clip_name(chunk)] = blake2b(name, digest_size=16).hexdigest()
        return units

    def _features(self, clips: Sequence[Clip]) -> FeatureRows:
        features = [None if c.features is None else read_features(c.features) for c in clips]
        if not any(features):
            raise ConfigError(
                f"Bad data.video 'features': no clip of {self.corpus.name} has any; name their "
                "table in the corpus, or leave data.video out."
            )
        rows = FeatureRows(features)
        return rows.enrolled([c.speaker for c in clips]) if self.enrol == "speaker" else rows

    @property
    def notes(self) -> list[str]:
        """See `LabelledDataModule.notes`."""
        return [*super().notes, *self._picture_notes()]

    def _picture_notes(self) -> list[str]:
        pictures = self._pictures
        if isinstance(pictures, FaceRows) and pictures.reasons:
            return [f"in {len(pictures.reasons)} clips the face is seen in part or not at all"]
        if isinstance(pictures, FeatureRows):
            clips = self.prepared.clips
            lacking = [c for c in clips if c.features is None]
            mean = ["picture features are clip-mean"] if pictures.timeless else []
            count = f"{len(lacking)} of {len(clips)} clips have no picture features"
            return [*mean, *([count] if lacking else [])]
        if isinstance(pictures, PairedRows) and (lost := pictures.store.failed):
            total = len(lost) + len(pictures.store.clips)
            clip, reason = lost[0]
            first = f"{clip.path}: {reason}"
            return [f"{len(lost)} of {total} face pictures left out (first: {first})"]
        return []

    @property
    def marks(self) -> list[str]:
        """See `LabelledDataModule.marks`."""
        paired = [PAIRED] if isinstance(self.corpus, Paired) else []
        return [*paired, *([ENROLLED] if self.enrol == "speaker" else [])]

    def enrol_speakers(self, encoder: AudioEncoder) -> None:
        """See `LabelledDataModule.enrol_speakers`; with ``enrol: speaker`` alone."""
        if self.enrol != "speaker" or encoder.normaliser.mode != "speaker":
            return
        store = self.prepared
        for speaker in sorted({c.speaker for c in store.clips if c.speaker}):
            clips = [c for c in store.clips if c.speaker == speaker]
            self._references[speaker] = encoder.reference_of(self.loader(clips))

    def prepare_features(
        self, encoder: AudioEncoder, *, everything: bool = False, teacher: bool = False
    ) -> int:
        """See `LabelledDataModule.prepare_features`.

        Raises:
            ConfigError: ``views`` is set and the encoder is trained.
        """
        if self.views is None or self._audio is None or self._teacher is None:
            return 0
        if not teacher and not encoder.constant_features:  # a teacher is never trained
            raise ConfigError(
                f"Bad data.views {self.views}: this {type(encoder).__name__} is trained, so that "
                "its outputs change; freeze it (tune: none), or set data.views to null."
            )
        training = set() if everything else {clip_name(c) for c in self.parts.train}
        waves, clips = self.prepared.waves, []
        for clip in self.units:
            name = clip_name(clip)
            if teacher and name not in training:
                continue
            views = self.views if everything or name in training else 0
            read = partial(_samples, waves, self._index[name][0])
            clips.append(ClipSound(name, self._digests[name], read, clip.speaker, views))
        into = self._teacher if teacher else self._audio
        return prepare_features(
            encoder,
            clips,
            degrade=self.degrade or Degrade(),
            into=into,
            progress=self.progress,
        )

    @property
    def units(self) -> list[Clip]:
        """Clips, or their chunks of one step, if the split is by chunk."""
        _ = self.prepared
        return self._units

    @property
    def digests(self) -> dict[str, str]:
        """`clip_name` to hash of the decoded samples, of clips, and of chunks if there are any."""
        _ = self.prepared
        return self._digests

    def dataset(
        self,
        clips: Sequence[Clip],
        *,
        training: bool = False,
        views: Sequence[int] | None = None,
        samples: bool = False,
    ) -> ClipDataset:
        """Make a dataset of some of the corpus's clips.

        Args:
            clips: rows.
            training: trim and crop, and draw pictures and views at random.
            views: index of each row's view, if features are prepared.
            samples: use the clips' samples, even if features are prepared.
        """
        index = [self._index[clip_name(c)] for c in clips] if self.prepared else []
        whole = self.split.unit == "clip"  # chunks are not cut
        pictures = self._pictures
        if training and isinstance(pictures, PairedRows):
            pictures = pictures.for_training()
        return ClipDataset(
            clips,
            waves=self.prepared.waves,
            index=[place for place, _, _ in index],
            spans=[(first, last) for _, first, last in index],
            labels=self.label_indices(clips),
            trim=self.trim and training and whole,
            crop_s=self.crop_s if training and whole else None,
            pictures=pictures,
            references=self._references,
            features=None if samples else self._audio,
            teacher=self._teacher if training else None,
            views=[None] * len(clips) if training else views,
        )

    def train_dataloader(self) -> DataLoader[Item]:
        """Shuffled batches of clips of similar length, for this process."""
        clips = self.parts.train
        rows = equal_corpora(clips) if self.equal_corpora else clips
        data = self.dataset(rows, training=True)
        sampler = self.sampler([self.samples(c) for c in data.clips])
        return DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=self.workers)

    def loader(self, clips: Sequence[Clip]) -> DataLoader[Item]:
        """See `LabelledDataModule.loader`; sorted by length, to reduce padding."""
        return self._loader(self.dataset(sorted(clips, key=self.samples)))

    def _loader(self, data: ClipDataset) -> DataLoader[Item]:
        return DataLoader(
            data,
            batch_size=self.batch_size,
            collate_fn=collate,
            num_workers=self.workers,
        )

    def sound_loader(self, clips: Sequence[Clip]) -> DataLoader[Item]:
        """See `LabelledDataModule.sound_loader`."""
        return self._loader(self.dataset(sorted(clips, key=self.samples), samples=True))

    def views_loader(self, clips: Sequence[Clip]) -> DataLoader[Item]:
        """See `LabelledDataModule.views_loader`."""
        clips = equal_corpora(clips) if self.equal_corpora else clips
        if self._audio is None or not self._audio.ready:
            return self.loader(clips)
        rows = [(c, v) for c in clips for v in range(self._audio.views(clip_name(c)) + 1)]
        rows.sort(key=lambda row: self.samples(row[0]))
        data = self.dataset([c for c, _ in rows], views=[v for _, v in rows])
        return self._loader(data)

    def samples(self, clip: Clip) -> int:
        """Length of a clip, or of a chunk of one."""
        _ = self.prepared
        _, first, last = self._index[clip_name(clip)]
        return last - first


def _samples(waves: AudioCache, place: int) -> Samples:
    """Samples ``[S]`` of a prepared clip, full scale 1."""
    return waves[place].astype(np.float32) / np.float32(32768)
