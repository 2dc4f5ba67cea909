"""Soft targets of a teacher on the student's own input."""

from pathlib import Path

import pytest
import torch

from avser.bundle import serialization as bundle
from avser.data.splits import SpeakerKFold
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.manifest import Manifest
from avser.errors import ConfigError, CorpusError
from avser.models.heads import AttentiveHead, LinearHead
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_audio_encoder, tiny_bundle
from avser.training.augment import Augment
from avser.training.task import EmotionTask
from avser.training.transfer import Teacher
from avser.types import Batch, audio_batch

EMOTIONS = ("neutral", "happy", "sad")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("teacher") / "tiny.fake")


def batch() -> Batch:
    torch.manual_seed(0)
    return audio_batch(
        0.1 * torch.randn(3, 20_000),
        torch.tensor([20_000, 9_000, 0]),
        label=torch.tensor([0, 1, 1]),
    )


def test_targets_are_the_models_own_probabilities(model: Path) -> None:
    net = bundle.load(str(model)).net.eval()
    teacher = Teacher(str(model), emotions=net.emotions)
    soft, present = teacher(batch())
    expected = net.predict(net(batch())).probabilities
    assert present.tolist() == [True, True, False]  # the third clip has no sound
    assert torch.allclose(soft[:2], expected[:2], atol=1e-6)
    assert torch.allclose(soft[:2].sum(dim=1), torch.ones(2))


def test_a_temperature_flattens_and_keeps_the_order(model: Path) -> None:
    names = bundle.load(str(model)).net.emotions
    teacher = Teacher(str(model), emotions=names)
    (sharp, _), (soft, _) = teacher(batch()), teacher(batch(), temperature=4.0)
    assert (soft[:2].amax(dim=1) < sharp[:2].amax(dim=1)).all()
    assert torch.equal(soft[:2].argsort(dim=1), sharp[:2].argsort(dim=1))


def test_several_teachers_give_the_mean(model: Path) -> None:
    names = bundle.load(str(model)).net.emotions
    one, _ = Teacher(str(model), emotions=names)(batch())
    two, _ = Teacher(f"{model}+{model}", emotions=names)(batch())
    assert torch.allclose(one, two, atol=1e-6)


def test_classes_are_merged_and_renormalised(model: Path) -> None:
    names = bundle.load(str(model)).net.emotions
    fewer = names[1:]
    merged, _ = Teacher(str(model), emotions=fewer, merge={names[0]: names[1]})(batch())
    plain, _ = Teacher(str(model), emotions=names)(batch())
    assert torch.allclose(merged[:2, 0], plain[:2, 0] + plain[:2, 1], atol=1e-6)
    dropped, _ = Teacher(str(model), emotions=fewer)(batch())
    assert torch.allclose(dropped[:2].sum(dim=1), torch.ones(2), atol=1e-6)


def test_a_teacher_without_a_class_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="it has no class 'bored'"):
        Teacher(str(model), emotions=("happy", "bored"))


def student(model: Path, weight: float) -> EmotionTask:
    torch.manual_seed(0)
    task = EmotionTask(
        audio=tiny_audio_encoder(),
        head=AttentiveHead(hidden=8),
        emotions=bundle.load(str(model)).net.emotions,
        augment=Augment(enabled=False),
        teacher=str(model),
        teacher_weight=weight,
        teacher_temperature=1.0,
    )
    return task.eval()


def test_the_loss_is_the_labels_at_weight_0_and_the_teachers_at_1(model: Path) -> None:
    task = student(model, 0.0)
    plain, _ = task.training_loss(batch())
    task.teacher = None
    assert torch.equal(plain, task.training_loss(batch())[0])
    task = student(model, 1.0)
    loss, _ = task.training_loss(batch())
    other = {**batch(), "label": torch.tensor([2, 2, 1])}
    assert torch.equal(loss, task.training_loss(other)[0])


def test_the_teacher_is_no_part_of_the_student_and_its_speakers_count_as_seen(model: Path) -> None:
    task = student(model, 0.5)
    assert not [name for name in task.state_dict() if "teacher" in name]
    assert task.started_from == [bundle.load(str(model)).provenance]


@pytest.mark.parametrize(("name", "value"), [("teacher_weight", 1.1), ("teacher_temperature", 0.0)])
def test_bad_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"Bad {name}"):
        EmotionTask(
            audio=tiny_audio_encoder(),
            head=AttentiveHead(hidden=8),
            emotions=EMOTIONS,
            **{name: value},  # type: ignore[arg-type]
        )


def test_unlabelled_clips_are_trained_on_the_teacher_alone(model: Path) -> None:
    """Whatever the weight of the teacher; without its judgement they count nothing."""
    task = student(model, 0.3)
    assert task.teacher is not None
    seen: list[torch.Tensor] = []
    task._loss = lambda streams, target: seen.append(target) or target.sum()  # type: ignore[assignment, func-returns-value]
    rows = {**batch(), "label": torch.tensor([0, -1, -1])}
    task.training_loss(rows)  # type: ignore[arg-type]
    soft, present = task.teacher(batch())
    assert present.tolist() == [True, True, False]
    torch.testing.assert_close(seen[0][1], soft[1])
    assert not seen[0][2].any()
    smooth = task._targets(torch.tensor([0]))[0]
    torch.testing.assert_close(seen[0][0], 0.7 * smooth + 0.3 * soft[0])


def test_unlabelled_clips_join_the_training_part_alone(tmp_path: Path) -> None:
    rows = ["path,emotion,speaker"]
    for speaker in "abcd":
        for emotion in ("happy", "sad", ""):
            name = f"{speaker}-{emotion or 'unknown'}.wav"
            write_wav(tmp_path / name, voice(emotion or "angry", speaker=speaker, seconds=0.6))
            rows.append(f"{name},{emotion},{speaker}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    data = ClipDataModule(
        Manifest(tmp_path), SpeakerKFold(folds=4), batch_size=9, unlabelled=True, crop_s=None
    )
    assert data.classes == ("happy", "sad")
    parts = data.parts
    assert all(c.emotion for c in [*parts.validation, *parts.test])
    assert sum(c.emotion is None for c in parts.train) == 3  # of the training speakers
    labels = next(iter(data.loader(parts.train)))["label"]
    assert (labels == -1).sum() == 3
    plain = ClipDataModule(Manifest(tmp_path), SpeakerKFold(folds=4))
    assert all(c.emotion for c in plain.parts.train)
    task = EmotionTask(audio=tiny_audio_encoder(), head=LinearHead(), emotions=data.classes)
    with pytest.raises(ConfigError, match=r"set model\.teacher, or data\.unlabelled to false"):
        task.prepare(data)
    (tmp_path / "manifest.csv").write_text("path,speaker\na-unknown.wav,a\n")
    with pytest.raises(CorpusError, match="none of its 1 clips has an emotion"):
        _ = ClipDataModule(Manifest(tmp_path), SpeakerKFold(folds=2), unlabelled=True).rows
