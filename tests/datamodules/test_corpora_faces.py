"""Face corpora in their owners' layouts: labels, parts, boxes and votes."""

from pathlib import Path

import numpy as np
import pytest

from avser.data.splits import Given
from avser.datamodules.corpora.affectnet import AffectNet
from avser.datamodules.corpora.expw import ExpW
from avser.datamodules.corpora.fer2013 import Fer2013
from avser.datamodules.corpora.ferplus import FerPlus
from avser.datamodules.corpora.raf_db import RafDb
from avser.datamodules.images import ImageDataModule
from avser.errors import ConfigError, CorpusError
from avser.models.encoders.pixels import PixelEncoder
from avser.models.heads import LinearHead
from avser.testing.images import face_picture
from avser.testing.pictures.affectnet import fake_affectnet
from avser.testing.pictures.expw import fake_expw
from avser.testing.pictures.fer2013 import fake_fer2013
from avser.testing.pictures.ferplus import fake_ferplus
from avser.testing.pictures.raf_db import fake_raf_db
from avser.training.task import EmotionTask


def test_raf_db_takes_labels_and_parts_from_the_list(tmp_path: Path) -> None:
    root = fake_raf_db(tmp_path, per_emotion=1)
    clips = {clip.clip_id: clip for clip in RafDb(root).clips()}
    assert len(clips) == 14
    assert (clips["train_00001"].emotion, clips["train_00001"].part) == ("surprised", "train")
    assert (clips["test_00007"].emotion, clips["test_00007"].part) == ("neutral", "test")
    aligned = clips["test_00002"].path
    assert aligned.name == "test_00002_aligned.jpg"
    aligned.rename(root / "test_00002.jpg")  # an original serves where none is aligned
    clips = {clip.clip_id: clip for clip in RafDb(root).clips()}
    assert clips["test_00002"].path == root / "test_00002.jpg"
    table = root / "basic" / "EmoLabel" / "list_patition_label.txt"
    table.write_text("train_00001.jpg 9\n")
    with pytest.raises(CorpusError, match="emotion code"):
        RafDb(root).clips()
    table.write_text("train_00001.jpg\n")
    with pytest.raises(CorpusError, match=r"Bad line 1 of .* it has 1 cells, expected 2"):
        RafDb(root).clips()


def test_affectnet_is_cut_out_by_its_boxes(tmp_path: Path) -> None:
    corpus = AffectNet(fake_affectnet(tmp_path, per_emotion=1))
    clips = corpus.clips()
    assert len(clips) == 16  # none, uncertain and no face are left out
    assert {clip.part for clip in clips} == {"train", "validation"}
    happy = next(c for c in clips if c.emotion == "happy" and c.part == "train")
    (face,) = corpus.pictures([happy])
    expected = face_picture("happy", person="training0", size=64, colour=True)
    np.testing.assert_array_equal(face, expected)


def test_a_box_beside_its_picture_is_reported(tmp_path: Path) -> None:
    root = fake_affectnet(tmp_path, per_emotion=1)
    table = root / "training.csv"
    table.write_text(table.read_text().replace(",20,10,64,64,", ",500,10,64,64,", 1))
    corpus = AffectNet(root)
    reasons = [p for p in corpus.pictures(corpus.clips()) if isinstance(p, str)]
    assert reasons == ["its box 500 10 564 74 lies outside the picture"]


def test_each_face_of_a_picture_of_expw_is_a_row(tmp_path: Path) -> None:
    corpus = ExpW(fake_expw(tmp_path, per_emotion=1))
    clips = {clip.clip_id: clip for clip in corpus.clips()}
    assert len(clips) == 14 and {clip.part for clip in clips.values()} == {None}
    first, second = clips["sad_face_0.jpg/0"], clips["sad_face_0.jpg/1"]
    assert (first.emotion, second.emotion) == ("sad", "neutral")
    pictures = corpus.pictures([first, second])
    for face, (emotion, person) in zip(pictures, (("sad", "00"), ("neutral", "01")), strict=True):
        np.testing.assert_array_equal(face, face_picture(emotion, person=person, colour=True))


def test_ferplus_labels_fer2013_by_most_votes(tmp_path: Path) -> None:
    root = fake_ferplus(tmp_path, per_emotion=2)
    old, new = Fer2013(root).clips(), FerPlus(root).clips()
    assert len(new) == len(old) - 2  # one unknown, one without a face
    assert new[0].emotion == "contempt" and new[0].attributes["votes"] == "contempt:10"
    assert [c.emotion for c in new[1:]] == [c.emotion for c in old[1:-2]]
    assert [c.part for c in new] == [c.part for c in old[:-2]]
    assert new[1].attributes["votes"] == "neutral:2 angry:7"
    (one,), (other,) = FerPlus(root).pictures([new[3]]), Fer2013(root).pictures([old[3]])
    np.testing.assert_array_equal(one, other)
    table = root / "fer2013new.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    with pytest.raises(CorpusError, match=r"has 41 rows and fer2013\.csv 42"):
        FerPlus(root).clips()


def test_votes_are_the_targets_of_training(tmp_path: Path) -> None:
    corpus = FerPlus(fake_ferplus(tmp_path, per_emotion=2))
    data = ImageDataModule(corpus, Given(), merge={"contempt": "disgust"}, soft_labels=True)
    batch = data.dataset(data.parts.train)[[1]]
    angry, neutral = (data.classes.index(name) for name in ("angry", "neutral"))
    shares = np.zeros(7, np.float32)
    shares[angry], shares[neutral] = 7 / 9, 2 / 9
    np.testing.assert_allclose(batch["label_shares"].numpy(), shares[None])
    assert batch["label"].tolist() == [angry]
    task = EmotionTask(
        video=PixelEncoder(),
        head=LinearHead(),
        emotions=tuple(data.classes),
        label_smoothing=0.07,
    )
    targets = task._targets(batch["label"], shares=batch["label_shares"])
    np.testing.assert_allclose(targets.numpy()[0], 0.93 * shares + 0.01, atol=1e-6)
    plain = ImageDataModule(Fer2013(fake_fer2013(tmp_path / "old")), Given(), soft_labels=True)
    with pytest.raises(ConfigError, match="pictures of fer2013 have no votes"):
        plain.dataset(plain.parts.train)
