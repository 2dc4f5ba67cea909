"""One line trains a model on a folder or a CSV, and prints the split first."""

import json
from pathlib import Path

import pytest
import yaml

from avser.cli import main
from avser.testing.corpora.folders import fake_folders
from avser.testing.corpora.manifest import fake_manifest
from avser.testing.nets import tiny_spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_folders(tmp_path_factory.mktemp("mine"), speakers=4, per_emotion=2)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_manifest(tmp_path_factory.mktemp("table"), speakers=4, per_emotion=2)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    path.write_text(yaml.safe_dump({"model": tiny_spec(), "trainer": trainer}))
    return str(path)


def test_folders_of_emotions_are_split_by_speaker_and_the_split_is_printed(
    folder: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", str(folder), "--model", config, "--epochs", "1", "--out", str(out)]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("split: speaker_kfold, fold 1 of 4, hash ")
    train, validation, test = (line.split() for line in lines[1:4])
    assert (train[0], validation[0], test[0]) == ("train:", "validation:", "test:")
    assert (int(train[1]) + int(validation[1]), int(test[1])) == (30, 10)
    results = json.loads((out / "results.json").read_text())
    assert results["split_hash"] == lines[0].rpartition(" ")[2]
    assert len(results["per_speaker"]) == 1
    assert {path.name for path in (out / "figures").iterdir()} >= {"confusion.pdf", "curves.pdf"}
    assert (out / "report.html").is_file() and (out / "bundle" / "config.yaml").is_file()
    assert lines[-1] == f"Classify with it: avser classify CLIP --model {out}"


def test_a_table_keeps_its_own_parts(
    table: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the CSV itself is named, and not the folder around it."""
    words = ["--model", config, "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(["train", str(table / "manifest.csv"), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("split: given, hash ")
    assert lines[1].split()[:6] == ["train:", "20", "clips", "of", "2", "speakers:"]
    assert lines[3].split()[:6] == ["test:", "10", "clips", "of", "1", "speaker:"]


@pytest.mark.long  # two trainings, each in a process of its own
def test_cross_validation_tests_every_speaker(
    folder: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["--model", config, "--epochs", "1", "--out", str(out), "--crossval"]
    assert main(["train", str(folder), *words, "--data.split.folds", "2"]) == 0
    assert capsys.readouterr().out.startswith("split: speaker_kfold, 2 folds: 2 trainings\n")
    results = json.loads((out / "results.json").read_text())
    assert len(results["per_speaker"]) == 4 and results["n"] == 40


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{folder}", "--model", "av"], "none of its 40 clips has a video; use audio or small."),
        (["{folder}", "--model", "big"], "Bad model 'big': expected one of audio, small, av, or"),
        (["{folder}/nobody"], "there is no such file or folder; give a CSV or a folder."),
        (["{folder}/anna/Calm/0.wav"], "one recording can't train a model"),
        (["{folder}", "--data.corpus.speaker", "none"], "split at random with --data.split random"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(
    words: list[str],
    sentence: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [word.format(folder=folder) for word in words]
    assert main(["train", *given, "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("avser train: Bad ") and sentence in error
    assert not (tmp_path / "run").exists()
