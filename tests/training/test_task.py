from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from sklearn.metrics import recall_score
from torch import Tensor
from torch.nn import functional as F

from avser.data.splits import HeldOut
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.emodb import EmoDb
from avser.errors import ConfigError
from avser.models.encoders.crnn import CrnnEncoder
from avser.models.encoders.step_cnn import StepCnnEncoder
from avser.models.encoders.timm_audio import TimmAudioEncoder
from avser.models.frontends.logmel import LogMel
from avser.models.heads import AttentiveHead
from avser.models.net import HeadOutput
from avser.testing.corpora.emodb import fake_emodb
from avser.testing.nets import tiny_audio_encoder
from avser.training.augment import Augment
from avser.training.image_augment import ImageAugment
from avser.training.optimization import recall_mean
from avser.training.task import EmotionTask

EMOTIONS = ("neutral", "happy", "sad", "angry")

pytestmark = [  # Lightning's advice, which does not fit here
    pytest.mark.filterwarnings("ignore:.*in eval mode"),  # the averaged weights are
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers; the two of test and validation lack nothing, one of train is half gone."""
    folder = fake_emodb(tmp_path_factory.mktemp("emodb"), speakers=6, per_emotion=2)
    for path in folder.glob("wav/03*W*.wav"):  # the angry clips of speaker 03
        path.unlink()
    return folder


@pytest.fixture
def data(root: Path) -> ClipDataModule:
    split = HeldOut(test=["11"], validation=["12"])
    return ClipDataModule(EmoDb(root), split, emotions=list(EMOTIONS), batch_size=8)


def task_of(*, normalise: Any = "clip", **settings: Any) -> EmotionTask:
    encoder = CrnnEncoder(
        frontend=LogMel(bins=16, window=512, hop=512, n_fft=512),
        normalise=normalise,
        channels=(4, 8),
        pools=((2, 2), (2, 2)),
        width=16,
        hidden=8,
    )
    defaults: dict[str, Any] = {"schedule": "constant"}
    return EmotionTask(
        audio=encoder, head=AttentiveHead(hidden=8), emotions=EMOTIONS, **(defaults | settings)
    )


def train(
    task: EmotionTask, data: ClipDataModule, *, steps: int = 3, folder: Path, accumulate: int = 1
) -> Trainer:
    trainer = Trainer(
        fast_dev_run=steps,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
    )
    trainer.fit(task, data)
    return trainer


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# -- figures and losses --------------------------------------------------------------------------


def test_uar_is_the_mean_recall_of_the_classes_that_occur() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 3])
    answers = torch.tensor([0, 0, 1, 1, 2, 3])
    confusion = torch.zeros(4, 4)
    for label, answer in zip(labels, answers, strict=True):
        confusion[label, answer] += 1
    expected = recall_score(labels, answers, average="macro", labels=[0, 1, 3])
    assert float(recall_mean(confusion)) == pytest.approx(expected)
    assert float(recall_mean(torch.zeros(4, 4))) == 0


def clips_only(logits: Tensor) -> dict[str, HeadOutput]:
    """Output of an audio head for clips of one step."""
    there = torch.ones(len(logits), dtype=torch.bool)
    return {"audio": HeadOutput(logits, logits[:, None], there[:, None], there)}


def test_loss_is_the_cross_entropy_of_torch() -> None:
    task = task_of(step_loss=0.0)
    task.class_weight.copy_(torch.rand(4) + 0.5)
    logits = torch.randn(6, 4)
    soft, label = torch.randn(6, 4).softmax(dim=-1), torch.arange(6) % 4
    for target, torchs in ((soft, soft), (F.one_hot(label, 4).float(), label)):
        theirs = F.cross_entropy(logits, torchs, weight=task.class_weight, reduction="none")
        torch.testing.assert_close(task._loss(clips_only(logits), target), theirs.mean())


def test_smoothing_is_that_of_torch() -> None:
    task = task_of(label_smoothing=0.2, step_loss=0.0)
    logits, label = torch.randn(6, 4), torch.arange(6) % 4
    ours = task._loss(clips_only(logits), task._targets(label))
    torch.testing.assert_close(ours, F.cross_entropy(logits, label, label_smoothing=0.2))


def test_absent_clips_and_masked_steps_bear_no_loss() -> None:
    task = task_of(step_loss=0.5)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    target = torch.eye(4)[:2]

    def stream(noise: float) -> HeadOutput:
        torch.manual_seed(0)
        logits, steps = torch.randn(2, 4), torch.randn(2, 3, 4)
        logits[1] += noise * torch.randn(4)
        steps = torch.where(mask[..., None], steps, steps + noise)
        return HeadOutput(logits, steps, mask, mask.any(dim=1))

    plain, noisy = ({"audio": stream(noise)} for noise in (0.0, 9.0))
    assert torch.equal(task._loss(plain, target), task._loss(noisy, target))
    nothing = HeadOutput(
        torch.randn(2, 4), torch.randn(2, 3, 4), mask & False, mask.any(dim=1) & False
    )
    assert float(task._loss({"audio": nothing}, target)) == 0


def test_decay_is_refused_out_of_range() -> None:
    for ema in (1.0, -0.1):
        with pytest.raises(ConfigError, match="Bad ema"):
            task_of(ema=ema)


def test_image_augmentation_is_for_what_makes_images() -> None:
    image = TimmAudioEncoder(frontend=LogMel(bins=32), backbone="test_resnet", size=(32, 32))
    for encoder, settings, message in (
        (tiny_audio_encoder(), {"flip": 0.0}, "makes no image"),
        (image, {}, "mirrored it is no sound"),
        (image, {"flip": 0.0, "mixup": 0.2}, "mixed by model.augment"),
    ):
        with pytest.raises(ConfigError, match=message):
            EmotionTask(
                audio=encoder,
                head=AttentiveHead(),
                emotions=("a", "b"),
                image_augment=ImageAugment(**settings),
            )


# -- a few steps ---------------------------------------------------------------------------------


def test_training_moves_the_weights_and_their_average_follows(
    data: ClipDataModule, tmp_path: Path
) -> None:
    task = task_of(ema=0.9)
    start = flat(task.net)
    assert torch.equal(flat(task.averaged), start)
    train(task, data, folder=tmp_path)
    moved, followed = (flat(task.net) - start).norm(), (flat(task.averaged) - start).norm()
    assert int(task.updates) == 3
    assert 0 < followed < moved and (flat(task.net) - flat(task.averaged)).norm() > 0
    assert not any(p.requires_grad for p in task.averaged.parameters())
    buffers = dict(task.averaged.named_buffers())
    ours = {k: v for k, v in task.net.named_buffers() if "num_batches" in k}
    assert ours and all(torch.equal(buffers[k], v) for k, v in ours.items())


def test_the_average_moves_once_an_optimizer_step(data: ClipDataModule, tmp_path: Path) -> None:
    task = task_of(ema=0.9)
    trainer = train(task, data, folder=tmp_path, accumulate=3)
    assert int(task.updates) == trainer.global_step == 1


def test_statistics_come_before_enrolment_and_cached_features(
    data: ClipDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = StepCnnEncoder(
        frontend=LogMel(bins=16, window=512, hop=512, n_fft=512),
        normalise="none",
        trim_db=None,
        channels=(4,),
        kernels=((3, 3),),
        pools=((2, 2),),
        pixel_mean=True,
    )
    task = EmotionTask(audio=encoder, head=AttentiveHead(hidden=8), emotions=EMOTIONS)
    batch = next(iter(data.loader(data.parts.validation)))
    cache, clips = task.feature_cache, (batch["waveform"], batch["lengths"])
    assert cache is not None
    before, _ = cache(encoder, *clips)
    enrolled: list[torch.Tensor] = []
    monkeypatch.setattr(
        data, "enrol_speakers", lambda encoder: enrolled.append(encoder.features_of(batch)[0])
    )
    task.prepare(data)
    after, mask = encoder.raw_features(*clips)
    assert float((after - before).abs().max()) > 0.1  # the mean image was taken off
    assert torch.equal(enrolled[0], after)
    valid = mask[:, None, None]  # behind a clip's end the cache has zeros
    assert torch.allclose(cache(encoder, *clips)[0] * valid, after * valid, atol=1e-4)


def test_freezing_all_that_learns_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves nothing that learns"):
        task_of(freeze={"audio": -1})


def test_without_averaging_both_are_the_same(data: ClipDataModule, tmp_path: Path) -> None:
    task = task_of(ema=0.0)
    train(task, data, folder=tmp_path)
    torch.testing.assert_close(flat(task.averaged), flat(task.net))


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        ("adamw", "one_cycle"),
        ("adam", "cosine"),
        ("rmsprop", "constant"),
        ("sgd", "one_cycle"),
        ("adam", "exponential"),
    ],
)
def test_every_optimizer_and_schedule_takes_steps(
    data: ClipDataModule, tmp_path: Path, optimizer: str, schedule: str
) -> None:
    task = task_of(optimizer=optimizer, schedule=schedule, augment=Augment(), lr=1e-2)
    start = flat(task.net)
    trainer = train(task, data, steps=2, folder=tmp_path)
    assert torch.isfinite(flat(task.net)).all() and not torch.equal(flat(task.net), start)
    assert {"train/loss", "train/uar", "validation/loss", "validation/score"} <= set(
        trainer.callback_metrics
    )


def test_the_rate_decays_by_epochs(data: ClipDataModule) -> None:
    task = task_of(schedule="exponential", lr=1e-3, decay=0.5, decay_epochs=2)
    made = task.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"].get("interval", "epoch") == "epoch"
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4])


def test_norms_and_biases_are_not_decayed(data: ClipDataModule) -> None:
    task = task_of()
    decayed, plain = task.configure_optimizers()["optimizer"].param_groups
    assert decayed["weight_decay"] > 0 and plain["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim < 2 for p in plain["params"])
    count = sum(len(g["params"]) for g in (decayed, plain))
    assert count == len(list(task.net.parameters()))


# -- the training part alone ---------------------------------------------------------------------


def test_class_weights_come_from_the_training_part(data: ClipDataModule, tmp_path: Path) -> None:
    data.prepare_data()
    counts = data.class_counts()
    assert counts == [8, 8, 8, 6]  # four speakers train; one of them is never angry
    task = task_of()
    train(task, data, steps=1, folder=tmp_path)
    assert float(task.class_weight.mean()) == pytest.approx(1)
    assert (task.class_weight * torch.tensor(counts)).tolist() == pytest.approx(
        [float(task.class_weight[0]) * 8] * 4
    )
    plain = task_of(class_weights=False)
    train(plain, data, steps=1, folder=tmp_path)
    assert plain.class_weight.tolist() == [1.0] * 4


def test_statistics_come_from_the_training_part(data: ClipDataModule, tmp_path: Path) -> None:
    task = task_of(normalise="training")
    train(task, data, steps=1, folder=tmp_path)
    audio = task.net.audio
    assert audio is not None and task.averaged.audio is not None

    def statistics(*parts: str) -> tuple[torch.Tensor, torch.Tensor]:
        frames = []
        for part in parts:
            dataset = data.dataset(getattr(data.parts, part))
            for i in range(len(dataset)):
                samples: Any = dataset[i]["samples"]
                raw, mask = audio.raw_features(samples[None], torch.tensor([len(samples)]))
                frames.append(raw[0, :, :, mask[0]])
        rows = torch.cat(frames, dim=-1)
        return rows.mean(dim=-1), rows.std(dim=-1, correction=0)

    mean, deviation = statistics("train")
    everything, _ = statistics("train", "validation", "test")
    for net_audio in (audio, task.averaged.audio):
        result = net_audio.normaliser
        torch.testing.assert_close(result.mean[..., 0], mean, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(result.deviation[..., 0], deviation, atol=1e-2, rtol=1e-2)
        assert (result.mean[..., 0] - everything).abs().max() > 0.02
