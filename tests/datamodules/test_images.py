"""The data module of pictures, and the commands on them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.cli.class_names import expand_classes
from avser.cli.config import parse_data
from avser.data.splits import Given, clip_name
from avser.datamodules.corpora.fer2013 import Fer2013
from avser.datamodules.images import ImageDataModule
from avser.errors import ConfigError, CorpusError
from avser.testing.images import encoded, face_picture
from avser.testing.pictures.fer2013 import fake_fer2013
from avser.testing.pictures.image_folder import fake_image_folder
from avser.types import Batch

DATA, MODEL = "configs/data/fer2013.yaml", "configs/model/face_cnn.yaml"
TINY = [
    "--model.video.init_args.channels=[16,32]",
    "--model.video.init_args.blocks=[1,1]",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--data.batch_size=8",
    "--model.ema=0.9",  # there are few updates
    "--model.image_augment.init_args={erasing: 0, mixup: 0, rotation: 5, scale: 0.05, shift: 0.03}",
]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pictures") / "fer2013"
    return fake_fer2013(place, per_emotion=10, parts=("train", "validation"))


@pytest.fixture
def data(root: Path) -> ImageDataModule:
    return ImageDataModule(Fer2013(root), Given(validation_share=0.1), batch_size=16)


def batches(loader: Any) -> list[Batch]:
    return list(loader)


# -- the data module -----------------------------------------------------------------------------


def test_a_picture_is_a_clip_of_one_face_and_no_sound(data: ImageDataModule) -> None:
    clips = data.parts.test
    (batch, *more) = batches(data.loader(clips))
    assert batch["faces"].shape == (32, 1, 1, 1, 48, 48) and batch["faces"].dtype == torch.uint8
    assert batch["face_mask"].all() and batch["face_mask"].shape == (32, 1, 1)
    assert batch["waveform"].shape == (32, 0) and not batch["lengths"].any()
    assert sum(len(b["label"]) for b in (batch, *more)) == len(clips) == 70
    clip = clips[0]
    assert batch["clip_id"][0] == clip_name(clip)
    assert data.classes[int(batch["label"][0])] == clip.emotion
    expected = face_picture(str(clip.emotion), person=f"{clip.part}{clip.path.stem}")
    assert torch.equal(batch["faces"][0, 0, 0, 0], torch.from_numpy(expected))


def test_training_shuffles_anew_each_epoch_and_repeats_by_seed(data: ImageDataModule) -> None:
    loader = data.train_dataloader()
    first, second = ([name for b in batches(loader) for name in b["clip_id"]] for _ in range(2))
    assert first != second
    assert len(first) == len(set(first)) == len(data.parts.train) // 16 * 16
    again = ImageDataModule(data.corpus, data.split, batch_size=16)
    assert [n for b in batches(again.train_dataloader()) for n in b["clip_id"]] == first
    labels = torch.cat([b["label"] for b in batches(loader)])
    assert len(labels[:16].unique()) > 3  # a batch holds many classes


def test_loading_in_processes_gives_the_same(data: ImageDataModule) -> None:
    data.workers = 1
    shared = batches(data.loader(data.parts.validation))
    data.workers = 0
    alone = batches(data.loader(data.parts.validation))
    assert torch.equal(shared[0]["faces"], alone[0]["faces"])


def test_classes_are_merged_and_chosen(root: Path) -> None:
    data = ImageDataModule(
        Fer2013(root),
        Given(validation_share=0.1),
        emotions=["angry", "sad"],
        merge={"disgust": "angry"},
    )
    assert data.classes == ("sad", "angry")
    assert data.class_counts() == [9, 18]
    assert len(data.rows) == 60
    with pytest.raises(CorpusError, match="no picture of fer2013 has one of bored"):
        _ = ImageDataModule(Fer2013(root), Given(), emotions=["bored"]).rows
    with pytest.raises(ConfigError, match="no training picture is bored"):
        ImageDataModule(Fer2013(root), Given(), emotions=["bored", "sad"]).class_counts()


def test_copies_of_test_pictures_do_not_train(tmp_path: Path) -> None:
    root = fake_fer2013(tmp_path / "fer2013", per_emotion=10, parts=("train", "validation"))
    copy = root / "validation" / "happy" / "3.png"
    (root / "train" / "sad" / "4.png").write_bytes(copy.read_bytes())
    parts = ImageDataModule(Fer2013(root), Given(validation_share=0.1)).parts
    rest = {c.clip_id for c in (*parts.train, *parts.validation)}
    assert "train/sad/4.png" not in rest and len(rest) == 69
    assert any("1 train clips left out" in note for note in parts.notes)


def test_colour_and_size_are_settings(tmp_path: Path) -> None:
    words = ["--data=avser.datamodules.images.ImageDataModule"]
    words += ["--data.corpus=avser.datamodules.corpora.image_folder.ImageFolder"]
    words += [f"--data.corpus.init_args.root={fake_image_folder(tmp_path / 'own')}"]
    words += ["--data.split=avser.data.splits.Resubstitution"]
    data = parse_data([*words, "--data.colour=true", "--data.size=32"])
    (batch,) = batches(data.loader(data.parts.test))
    assert batch["faces"].shape == (12, 1, 1, 3, 32, 32)
    with pytest.raises(ConfigError, match="Bad size 4"):
        parse_data([*words, "--data.size=4"])


# -- which data module ---------------------------------------------------------------------------


def test_a_configuration_names_its_data_module(tmp_path: Path) -> None:
    root = fake_image_folder(tmp_path / "own")
    corpus = "avser.datamodules.corpora.image_folder.ImageFolder"
    words = [f"--data.corpus={corpus}", f"--data.corpus.init_args.root={root}"]
    words += ["--data.split=avser.data.splits.Resubstitution"]
    with pytest.raises(ConfigError, match=r"Bad data module of image_folder: .*ImageDataModule"):
        parse_data(words)
    by_name = parse_data(expand_classes(["--data=ImageDataModule", *words]))
    assert type(by_name) is ImageDataModule
    path = tmp_path / "own.yaml"
    settings = {"corpus": {"class_path": corpus, "init_args": {"root": str(root)}}}
    kind = "avser.datamodules.images.ImageDataModule"
    path.write_text(yaml.safe_dump({"data": {"class_path": kind, "init_args": settings}}))
    (tmp_path / "later.yaml").write_text("data: {batch_size: 3}\nmodel: {lr: 1.0e-3}\n")
    files = ["-c", str(path), "-c", str(tmp_path / "later.yaml")]
    composed = parse_data([*files, *words[-1:], "--trainer.max_epochs=2", "--model.ema", "0"])
    assert type(composed) is ImageDataModule and composed.batch_size == 3
    assert len(composed.rows) == len(by_name.rows)


# -- commands ------------------------------------------------------------------------------------


def test_a_net_learns_faces_and_is_measured(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["-c", DATA, "-c", MODEL, "--root", str(root), *TINY]
    words += ["--data.split.init_args.validation_share=0.2", "--trainer.max_epochs=20"]
    assert main(["fit", *words, "--out", str(run)]) == 0
    results = json.loads((run / "results.json").read_text())
    assert results["uar"]["value"] > 0.35  # a guess is 0.14
    assert results["interval_unit"] == "clip" and results["n"] == 70
    assert "speakers unknown" in " ".join(results["notes"])
    assert list(bundle.load(run).net.heads) == ["video"]
    capsys.readouterr()

    assert (
        main(["evaluate", "--model", str(run), "-c", DATA, "--root", str(root), "--json", "-"]) == 0
    )
    same = json.loads(capsys.readouterr().out)
    assert same["accuracy"]["value"] == pytest.approx(results["accuracy"]["value"])
    assert "SEEN SPEAKERS" not in same["marks"]

    whole = ["evaluate", "--model", str(run), "--corpus", "fer2013", "--root", str(root)]
    assert main([*whole, "--json", "-"]) == 0
    everything = json.loads(capsys.readouterr().out)
    assert everything["n"] == 140 and "SEEN SPEAKERS" in everything["marks"]
    assert main([*whole, "--unseen-only", "--json", "-"]) == 0
    unseen = json.loads(capsys.readouterr().out)
    assert unseen["n"] == 70 and "SEEN SPEAKERS" not in unseen["marks"]
    assert unseen["accuracy"]["value"] == pytest.approx(results["accuracy"]["value"])


def test_prepare_and_audit_speak_of_pictures(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-c", DATA, "--root", str(root)]
    assert main(["prepare", *words]) == 0
    assert capsys.readouterr().out.startswith("140 pictures of fer2013 are prepared in ")
    assert main(["audit", *words, "--plot", str(tmp_path / "plots")]) == 0
    message = capsys.readouterr().out
    assert "speakers unknown" in message and "│ speakers" not in message
    assert (tmp_path / "plots" / "example_happy.png").read_bytes()[:4] == b"\x89PNG"


def test_pictures_that_can_not_be_decoded_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fake_image_folder(tmp_path / "own", per_emotion=3)
    (root / "train" / "sad" / "2.jpg").write_bytes(encoded(face_picture("sad"))[:50])
    assert main(["prepare", "-c", "configs/data/image_folder.yaml", "--root", str(root)]) == 0
    message = capsys.readouterr().out
    assert message.startswith("17 pictures") and "left out: " in message and "2.jpg" in message
