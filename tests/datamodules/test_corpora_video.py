"""Videos of the corpora that have them: their faces reach the network.

The fakes have the owners' layouts; here their films show a real face, which a detector finds.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avser.data.face_cache import prepare_faces
from avser.data.splits import HeldOut
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.crema_d import CremaD
from avser.datamodules.corpora.enterface import Enterface
from avser.datamodules.corpora.ravdess import Ravdess
from avser.datamodules.corpora.savee import Savee
from avser.testing import corpora as fakes
from avser.testing.faces import Person, head, read_picture, scene
from avser.testing.media import voice, write_video
from avser.types import Clip, Corpus

FACE = Path(__file__).parents[2] / "examples" / "face.jpg"


def ravdess(root: Path) -> Corpus:
    return Ravdess(fakes.FAKES["ravdess"](root, speakers=1, per_emotion=1, video=True))


def ravdess_av(root: Path) -> Corpus:
    return Ravdess(
        fakes.FAKES["ravdess"](root, speakers=1, per_emotion=1, video=True), modality="av"
    )


def savee(root: Path) -> Corpus:
    return Savee(fakes.FAKES["savee"](root, speakers=1, per_emotion=1, video=True))


def crema_d(root: Path) -> Corpus:
    return CremaD(fakes.FAKES["crema_d"](root, speakers=1, per_emotion=1, video=True))


def enterface(root: Path) -> Corpus:
    return Enterface(fakes.FAKES["enterface"](root, speakers=1, per_emotion=1))


def with_a_face(clip: Clip) -> Clip:
    """The clip, its film now of a person; sound of a film stays in it."""
    assert clip.video is not None
    face = Person(head(read_picture(FACE), height=100), [(0.5, 0.5)] * 6)
    pictures = np.stack([scene([face], index=i, size=(144, 176)) for i in range(6)])
    sound = voice(str(clip.emotion), seconds=1.2) if clip.video == clip.path else None
    write_video(clip.video, pictures, samples=sound, fps=5.0)
    return clip


@pytest.mark.parametrize("make", [ravdess, ravdess_av, savee, crema_d, enterface])
def test_the_faces_of_a_corpus_are_found(make: Callable[[Path], Corpus], tmp_path: Path) -> None:
    clips = [with_a_face(c) for c in make(tmp_path / "corpus").clips() if c.video is not None][:2]
    assert len(clips) == 2
    rows = prepare_faces(clips, folder=tmp_path / "cache")
    assert rows.reasons == {}
    for row in rows.rows:
        cut = row.cut(0, 2)
        assert cut["face_mask"][0].any()
        assert cut["faces"][cut["face_mask"]].float().std() > 20  # a picture, not a plain square


def test_a_data_module_serves_voice_and_face_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSER_CACHE", str(tmp_path / "cache"))
    root = fakes.FAKES["ravdess"](tmp_path / "ravdess", speakers=3, per_emotion=1, video=True)

    class Few(Ravdess):
        """Three emotions, to look at few films; one film is lost."""

        def clips(self) -> list[Clip]:
            result = [c for c in super().clips() if c.emotion in ("happy", "sad", "angry")]
            return [replace(result[0], video=None), *result[1:]]

    corpus = Few(root)
    for clip in corpus.clips():
        if clip.video is not None:
            with_a_face(clip)
    split = HeldOut(test=["03"], validation=["02"])
    data = ClipDataModule(corpus, split, batch_size=3, video="faces", crop_s=0.6)
    (batch,) = data.loader(data.parts.train)
    steps = batch["face_mask"].shape[1]
    assert batch["faces"].shape == (3, steps, 2, 3, 112, 112)
    seen = dict(zip(batch["clip_id"], batch["face_mask"].any(dim=(1, 2)).tolist(), strict=True))
    assert sorted(seen.values()) == [False, True, True]
    assert not seen[f"ravdess/{corpus.clips()[0].clip_id}"]
    (cropped,) = data.train_dataloader()  # sound and picture are cut at the same steps
    assert cropped["face_mask"].shape[1] == -(-cropped["waveform"].shape[1] // 8192)
