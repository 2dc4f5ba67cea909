"""Speech beside pictures of other people, paired by emotion."""

from pathlib import Path

import pytest
import torch

from avser.data.splits import HeldOut
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.fer2013 import Fer2013
from avser.datamodules.corpora.paired import Paired
from avser.datamodules.corpora.ravdess import Ravdess
from avser.errors import ConfigError
from avser.evaluation.summary import PAIRED
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.pictures.fer2013 import fake_fer2013

EMOTIONS = ["neutral", "happy", "sad"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClipDataModule:
    monkeypatch.setenv("AVSER_CACHE", str(tmp_path / "cache"))
    speech = Ravdess(fake_ravdess(tmp_path / "ravdess", speakers=4, per_emotion=2))
    pictures = Fer2013(fake_fer2013(tmp_path / "fer2013"))
    return ClipDataModule(
        Paired(speech, pictures),
        HeldOut(test=["04"], validation=["03"]),
        emotions=EMOTIONS,
        merge={"calm": "neutral"},
        batch_size=16,
    )


def test_pairs_show_a_face_of_the_clips_class_in_every_step(data: ClipDataModule) -> None:
    (batch,) = data.loader(data.parts.test)
    steps = batch["face_mask"].shape[1]
    assert batch["faces"].shape[2:] == (1, 1, 48, 48)
    assert batch["face_mask"].any(dim=1).all()
    store = data._pictures.store  # type: ignore[union-attr]
    known = {
        store.pixels[i].tobytes(): data.labels(clip.emotion) for i, clip in enumerate(store.clips)
    }
    for row, label in zip(batch["faces"], batch["label"].tolist(), strict=True):
        assert known[row[0, 0].numpy().tobytes()] == EMOTIONS[label]
        assert torch.equal(row[0], row[steps - 2])  # one picture for the clip


def test_training_draws_training_pictures_and_testing_keeps_its_own(data: ClipDataModule) -> None:
    first, again = (next(iter(data.loader(data.parts.test)))["faces"] for _ in range(2))
    assert torch.equal(first, again)
    store = data._pictures.store  # type: ignore[union-attr]
    part = {store.pixels[i].tobytes(): clip.part for i, clip in enumerate(store.clips)}
    clips = data.dataset(data.parts.train, training=True)
    shown = [clips[i]["faces"][0, 0] for _ in range(4) for i in range(len(clips))]  # type: ignore[index]
    assert {part[picture.numpy().tobytes()] for picture in shown} == {"train"}
    one = {clips[0]["faces"][0, 0].numpy().tobytes() for _ in range(20)}  # type: ignore[index]
    assert len(one) > 1
    assert {part[row[0, 0].numpy().tobytes()] for row in first} == {"validation"}


def test_pairs_are_marked_and_carry_both_licences(data: ClipDataModule) -> None:
    assert data.marks == [PAIRED]
    assert "CC BY-NC-SA" in data.corpus.licence and "research" in data.corpus.licence


def test_a_class_without_pictures_is_reported(data: ClipDataModule) -> None:
    corpus = data.corpus
    assert isinstance(corpus, Paired)
    lacking = ClipDataModule(corpus, data.split, emotions=["calm", "happy"])
    with pytest.raises(ConfigError, match="picture of calm"):
        _ = lacking.prepared
