"""Heads that train from prepared features predict as they would from samples."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.cli.config import parse
from avser.cli.library_warnings import ignore_library_warnings
from avser.errors import ConfigError
from avser.testing.corpora.ravdess import fake_ravdess

ENCODER = {
    "class_path": "avser.models.encoders.whisper.WhisperEncoder",
    "init_args": {"size": "mini", "join": [1, 2]},
}
SOFTMAX = {
    "class_path": "avser.models.baselines.head.BaselineHead",
    "init_args": {"baseline": {"class_path": "avser.models.baselines.linear.Softmax"}},
}
ATTENTIVE = {"class_path": "avser.models.heads.AttentiveHead", "init_args": {"hidden": 8}}

SPECTROGRAM_ONLY = {
    "class_path": "avser.training.augment.Augment",
    "init_args": {"speed": 0.0, "gain_db": 0.0, "mixup": 0.0},
}


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "ravdess"
    return fake_ravdess(root, speakers=("01", "02", "03", "04"), per_emotion=2)


def config(folder: Path, root: Path, *, head: dict[str, Any], **data: Any) -> list[str]:
    text = {
        "seed_everything": 1,
        "data": {"views": 1, "batch_size": 8, **data},
        "model": {"audio": ENCODER, "head": head, "augment": None, "lr": 0.01},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(text))
    folds = "--data.split.init_args.folds=2"
    return ["-c", "configs/data/ravdess.yaml", "-c", str(path), "--root", str(root), folds]


def built(words: list[str]) -> Any:
    root = words.index("--root")
    own = [*words[:root], f"--data.corpus.init_args.root={words[root + 1]}", *words[root + 2 :]]
    with ignore_library_warnings():
        return parse(own, trainer_defaults={"accelerator": "cpu", "logger": False})


def test_batches_hold_features_in_the_place_of_samples(ravdess: Path, tmp_path: Path) -> None:
    setup = built(config(tmp_path, ravdess, head=ATTENTIVE, views=2))
    data, encoder = setup.data, setup.task.net.audio
    early = data.loader(data.parts.test)
    assert next(iter(early))["audio_features"].shape[1] == 0
    train, test = data.parts.train, data.parts.test
    assert data.prepare_features(encoder) == 3 * len(train) + len(data.units) - len(train)
    batch = next(iter(early))  # loaders are made before features are
    assert batch["waveform"].shape[1] == 1 and not batch["lengths"].any()
    assert batch["audio_features"].shape[1:3] == (2, 32)
    assert batch["audio_mask"].shape[1] == batch["audio_features"].shape[3]
    assert sum(len(b["label"]) for b in data.views_loader(train)) == 3 * len(train)
    assert sum(len(b["label"]) for b in data.views_loader(test)) == len(test)
    drawn = [b["audio_features"] for _ in range(2) for b in data.train_dataloader()]
    assert len({float(x.sum()) for x in drawn}) == len(drawn)  # views are drawn anew
    sound = next(iter(data.sound_loader(test)))
    assert sound["audio_features"].shape[1] == 0 and sound["lengths"].min() > 8000
    net = setup.task.net.eval()
    with torch.no_grad():
        prepared, plain = net.predict(net(batch)), net.predict(net(sound))
    assert batch["clip_id"] == sound["clip_id"]
    torch.testing.assert_close(prepared.probabilities, plain.probabilities, atol=2e-3, rtol=0)
    assert torch.equal(prepared.mask, plain.mask)


@pytest.mark.parametrize("head", [SOFTMAX, ATTENTIVE])
def test_a_bundle_trained_on_features_predicts_from_samples(
    ravdess: Path, tmp_path: Path, head: dict[str, Any]
) -> None:
    words = config(tmp_path, ravdess, head=head)
    assert main(["fit", *words, "--out", str(tmp_path / "run")]) == 0
    trained = json.loads((tmp_path / "run" / "results.json").read_text())
    out = ["--model", str(tmp_path / "run"), "--json", str(tmp_path / "again.json")]
    data = ["-c", "configs/data/ravdess.yaml", "--root", str(ravdess), words[-1]]
    assert main(["evaluate", *data, *out]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["uar"]["value"] == pytest.approx(trained["uar"]["value"], abs=0.02)
    net = bundle.load(tmp_path / "run").net
    assert net.audio is not None and net.audio.normaliser.deviation.std() > 0


def test_prepare_computes_all_that_folds_need(
    ravdess: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = config(tmp_path, ravdess, head=ATTENTIVE)
    assert main(["prepare", *words]) == 0
    count = 2 * 4 * 8 * 2  # with a view each
    assert f"{count} outputs of WhisperEncoder were computed" in capsys.readouterr().out
    setup = built(words)
    assert setup.data.prepare_features(setup.task.net.audio) == 0


def test_enrolment_uses_prepared_features(ravdess: Path, tmp_path: Path) -> None:
    speaker = {**ENCODER, "init_args": {**ENCODER["init_args"], "normalise": "speaker"}}  # type: ignore[dict-item]
    words = config(tmp_path, ravdess, head=ATTENTIVE, enrol="speaker")
    setup = built([*words, f"--model.audio={json.dumps(speaker)}"])
    data, encoder = setup.data, setup.task.net.audio
    data.prepare_features(encoder)
    data.enrol_speakers(encoder)
    batch = next(iter(data.loader(data.parts.test)))
    sound = next(iter(data.sound_loader(data.parts.test)))
    assert batch["speaker_statistics"].shape == (8, 2, 2, 32)
    own = encoder.reference([(sound["waveform"][:1], sound["lengths"][:1])])
    assert own.shape == batch["speaker_statistics"][0].shape


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.audio.init_args.tune=all"], "this WhisperEncoder is trained"),
        (["--data.views=-1"], "Bad data.views -1"),
        (["--model.augment=avser.training.augment.Augment"], "set model.augment to null"),
        ([f"--model.augment={json.dumps(SPECTROGRAM_ONLY)}"], "prepared features are not changed"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    ravdess: Path,
    tmp_path: Path,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = config(tmp_path, ravdess, head=ATTENTIVE)
    assert main(["fit", *words, *flags, "--out", str(tmp_path / "run")]) == 1
    printed = capsys.readouterr().err
    assert message in printed and len(printed.strip().splitlines()) == 1


CRNN = {
    "class_path": "avser.models.encoders.crnn.CrnnEncoder",
    "init_args": {
        "frontend": {
            "class_path": "avser.models.frontends.two_channel_mel.TwoChannelMel",
            "init_args": {"bins": 16},
        },
        "channels": [4],
        "pools": [[2, 2]],
        "hidden": 8,
    },
}


def student(folder: Path, root: Path, teacher: Path, **data: Any) -> Any:
    words = config(folder, root, head=ATTENTIVE, **data)
    parts = [f"--model.audio={json.dumps(CRNN)}", f"--model.augment={json.dumps(SPECTROGRAM_ONLY)}"]
    return built([*words, *parts, f"--model.teacher={teacher}"])


@pytest.fixture(scope="module")
def teacher(ravdess: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    words = config(folder, ravdess, head=SOFTMAX)
    assert main(["fit", *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_student_and_teacher_are_given_the_same_view(
    ravdess: Path, tmp_path: Path, teacher: Path
) -> None:
    setup = student(tmp_path, ravdess, teacher, views=3)
    setup.task.prepare(setup.data)
    own, its = setup.data._audio, setup.data._teacher
    drawn = set()
    for batch in setup.data.train_dataloader():
        for row, name in enumerate(batch["clip_id"]):
            valid = batch["audio_mask"][row]
            seen = batch["audio_features"][row][..., valid]
            views = [own.read(name, view) for view in range(4)]
            same = [n for n, (x, m) in enumerate(views) if torch.equal(x[..., m], seen)]
            assert same  # trimmed, and otherwise as it was prepared
            drawn.update(same)  # several, where chance degraded a view by nothing
            values, mask = its.read(name, same[0])
            steps = len(mask)
            assert torch.equal(batch["teacher_features"][row][..., :steps], values)
            assert torch.equal(batch["teacher_mask"][row][:steps], mask)
    assert drawn == {0, 1, 2, 3}
    assert "teacher_features" not in next(iter(setup.data.loader(setup.data.parts.validation)))


def test_targets_from_prepared_features_are_the_teachers_on_the_sound(
    ravdess: Path, tmp_path: Path, teacher: Path
) -> None:
    setup = student(tmp_path, ravdess, teacher, views=0)
    setup.task.prepare(setup.data)
    batch = next(iter(setup.data.train_dataloader()))
    clips = [c for n in batch["clip_id"] for c in setup.data.parts.train if n.endswith(c.clip_id)]
    sound = {
        name: row
        for b in setup.data.sound_loader(clips)
        for name, row in zip(b["clip_id"], setup.task.teacher(b)[0], strict=True)
    }
    soft, present = setup.task.teacher(batch)
    expected = torch.stack([sound[name] for name in batch["clip_id"]])
    assert present.all() and expected.std(dim=0).max() > 0.01
    torch.testing.assert_close(soft, expected, atol=3e-3, rtol=0)


def test_a_taught_student_on_views_is_trained_and_saved(
    ravdess: Path, tmp_path: Path, teacher: Path
) -> None:
    words = config(tmp_path, ravdess, head=ATTENTIVE, views=1)
    parts = [f"--model.audio={json.dumps(CRNN)}", f"--model.augment={json.dumps(SPECTROGRAM_ONLY)}"]
    out = ["--model.teacher", str(teacher), "--out", str(tmp_path / "run")]
    assert main(["fit", *words, *parts, *out]) == 0
    net = bundle.load(tmp_path / "run").net
    assert net.audio is not None and net.audio.frontend.channels == 2


def test_two_teachers_on_views_are_refused(ravdess: Path, tmp_path: Path, teacher: Path) -> None:
    setup = student(tmp_path, ravdess, Path(f"{teacher}+{teacher}"), views=1)
    with pytest.raises(ConfigError, match=r"give one such model, or set data\.views to null"):
        setup.task.prepare(setup.data)
