from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from avser.data.splits import RandomSplit
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.savee import Savee
from avser.errors import ConfigError
from avser.models.encoders.timm_audio import TimmAudioEncoder
from avser.models.encoders.timm_faces import TimmFacesEncoder
from avser.models.frontends.logmel import LogMel
from avser.models.heads import AttentiveHead
from avser.testing.corpora import FAKES
from avser.testing.nets import tiny_audio_encoder
from avser.training.callbacks import ProgressiveResizing
from avser.training.fit import StopFile
from avser.training.task import EmotionTask

pytestmark = [  # Lightning's advice, which does not fit here
    pytest.mark.filterwarnings("ignore:.*in eval mode"),  # the averaged weights are
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def image_encoder(backbone: str = "test_resnet") -> TimmAudioEncoder:
    return TimmAudioEncoder(
        frontend=LogMel(bins=32, hop=512), backbone=backbone, clip_s=1.0, size=(32, 48)
    )


def test_stages_take_their_shares_and_the_last_epoch_has_the_own_size() -> None:
    stages = ProgressiveResizing(sizes=[(8, 8), (16, 16)], shares=[0.5, 0.25])
    sizes = [stages.size_of(e, 8) for e in range(8)]
    assert sizes == [(8, 8)] * 4 + [(16, 16)] * 2 + [None] * 2
    assert [stages.size_of(e, 2) for e in range(2)] == [(8, 8), None]
    assert stages.size_of(0, 1) is None
    for wrong in ({"shares": [0.5]}, {"shares": [0.6, 0.4]}, {"shares": [0.0, 0.1]}):
        with pytest.raises(ConfigError, match="Bad sizes"):
            ProgressiveResizing(**{"sizes": [(8, 8), (16, 16)], **wrong})


class Seen(Callback):
    """Notes sizes and scores of every epoch."""

    def __init__(self) -> None:
        self.sizes: list[Any] = []
        self.scores: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.sizes.append((pl_module.net.audio.image_size, pl_module.averaged.audio.image_size))
        self.scores.append(float(trainer.callback_metrics["validation/score"]))


def trained(task: EmotionTask, root: Path, *callbacks: Callback) -> None:
    FAKES["savee"](root / "savee", speakers=2, per_emotion=3)
    data = ClipDataModule(
        Savee(root / "savee"), RandomSplit(validation=0.2, test=0.2), batch_size=8
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        limit_train_batches=1,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        default_root_dir=root,
    )
    trainer.fit(task, data)


EMOTIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def test_training_grows_the_images_and_never_chooses_a_small_one(tmp_path: Path) -> None:
    task = EmotionTask(audio=image_encoder(), head=AttentiveHead(), emotions=EMOTIONS)
    seen = Seen()
    trained(task, tmp_path, ProgressiveResizing(sizes=[(16, 24)], shares=[0.6]), seen)
    assert seen.sizes == [((16, 24),) * 2] * 2 + [((32, 48),) * 2]
    assert max(seen.scores[:2]) <= 0 <= seen.scores[2]
    audio = task.averaged.audio
    assert isinstance(audio, TimmAudioEncoder) and audio.image_size == (32, 48)


def test_what_can_not_be_resized_is_refused(tmp_path: Path) -> None:
    task = EmotionTask(audio=tiny_audio_encoder(), head=AttentiveHead(), emotions=EMOTIONS)
    with pytest.raises(ConfigError, match="no encoder of this model resizes"):
        trained(task, tmp_path, ProgressiveResizing(sizes=[(16, 24)], shares=[0.6]))
    with pytest.raises(ConfigError, match="built for one image size"):
        image_encoder("test_vit").resize(16, 24)
    faces = TimmFacesEncoder(backbone="test_resnet", size=32)
    faces.resize(48, 48)
    assert faces.embed(torch.rand(2, 1, 20, 20)).shape == (2, faces.dim)


def test_a_stop_file_ends_the_training_after_the_epoch(tmp_path: Path) -> None:
    path = tmp_path / "STOP"
    stop = StopFile(path)
    trainer = Trainer(accelerator="cpu", logger=False, barebones=True)
    stop.on_train_epoch_end(trainer, LightningModule())
    assert not trainer.should_stop
    path.touch()
    stop.on_train_epoch_end(trainer, LightningModule())
    assert trainer.should_stop
